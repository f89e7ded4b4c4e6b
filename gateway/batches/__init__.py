"""OpenAI's batches: a file of requests becomes jobs, and their answers another file."""
