"""The server as a process, from the environment that its lock file pins."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.compat.environment import client_python
from tests.house.redis_server import free_port
from tests.integration.processes import Program

LOCK = Path(__file__).with_name("requirements.lock")
KEY = "sk-tiny-0123456789abcdef"
MODEL = "tiny"
START_LIMIT_S = 60.0


class LlamaCpp(Program):
    """The server; `url` is what a service's configuration wants."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/v1"
        arguments = [str(port), KEY]
        super().__init__("tests.compat.llama_cpp.server", arguments, {}, folder, f"http://127.0.0.1:{port}/health")
        self._command[0] = client_python(LOCK)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[LlamaCpp]:
    """The server for the length of the block."""
    running = LlamaCpp(folder)
    running.start()
    try:
        running.wait(START_LIMIT_S)
        yield running
    finally:
        running.stop()
