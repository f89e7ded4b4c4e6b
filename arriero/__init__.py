"""Arriero's Python client: `Client` and `AsyncClient`, their values and their errors.

    from arriero import Client

    with Client() as client:
        job = client.enqueue("embedding", {"model": "nomic-embed-text", "input": "Hello"}, priority="low")
        for event in client.stream(job.id):
            print(event)

The client needs httpx and nothing of the servers. `arriero.cli` is the command.
"""

from arriero.client import AsyncClient, Client
from arriero.errors import ApiError, ArrieroClientError, GatewayUnreachable, JobFailed, WaitTimeout
from arriero.models import Chunk, Ended, Event, Job, JobPage, Queued, Restart, Started

__all__ = [
    "ApiError",
    "ArrieroClientError",
    "AsyncClient",
    "Chunk",
    "Client",
    "Ended",
    "Event",
    "GatewayUnreachable",
    "Job",
    "JobFailed",
    "JobPage",
    "Queued",
    "Restart",
    "Started",
    "WaitTimeout",
]
