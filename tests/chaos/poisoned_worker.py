"""A worker that a certain prompt kills, as a fault in a native library would: no exception, no farewell."""

from __future__ import annotations

import os
from typing import Any

from shared.queue.running import RunningJob
from shared.wire.canonical import ChatRequest
from tests.chaos.failing_worker import put
from worker.__main__ import main
from worker.execution import Execution

POISON = "[poison]"
EXIT_CODE = 139
"""What a shell says of a segmentation fault."""


def arm() -> None:
    """Die in the place of the call to the model server when the prompt says so."""
    call: Any = Execution._call

    async def fragile(execution: Execution, backend: Any, job: RunningJob, request: Any, timeouts: Any) -> Any:
        if isinstance(request, ChatRequest) and any(POISON in str(message.content) for message in request.messages):
            os._exit(EXIT_CODE)
        return await call(execution, backend, job, request, timeouts)

    put(Execution, "_call", fragile)


if __name__ == "__main__":
    arm()
    main()
