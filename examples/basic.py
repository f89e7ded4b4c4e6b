"""Ask a model, wait for the answer, print it."""

import os

from arriero import Client

URL = os.environ.get("ARRIERO_URL", "http://127.0.0.1:8000")

with Client(URL) as client:
    job = client.chat("Why do llamas hum?", model="llama3.2", system="You are brief.", max_tokens=100)
    print(job.text)
    print(job.status, "by", job.model, "in", len(job.attempts), "attempt")

# Output:
# Simulated answer from llama3.2 to "Why do llamas hum". ...
# succeeded by llama3.2 in 1 attempt
