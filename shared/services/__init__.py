"""The configured places that run models: what they are, which of them are in force, how well they do."""
