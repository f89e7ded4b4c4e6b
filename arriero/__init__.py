"""Arriero's Python client: `Client` and `AsyncClient`, their values and their errors.

    from arriero import Client

    with Client() as client:
        job = client.enqueue("embedding", {"model": "nomic-embed-text", "input": "Hello"}, priority="low")
        for event in client.stream(job.id):
            print(event)

The client needs httpx and nothing of the servers. `arriero.cli` is the command.

Names are imported when they are asked for: the command is in here too, and must be able to end quietly when it is
interrupted while it loads.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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


def __getattr__(name: str) -> object:
    if name in __all__:
        for module in map(import_module, ("arriero.client", "arriero.errors", "arriero.models")):
            if name in vars(module):
                return vars(module)[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
