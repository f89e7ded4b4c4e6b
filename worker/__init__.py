"""Runs jobs: claims them from the queue, calls a backend, publishes what it says, settles."""
