"""Real processes, killed, stopped and starved on purpose: what survives is counted. `python -m tests.chaos --help`."""
