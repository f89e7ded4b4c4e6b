"""A worker that kills itself at a named step of its first job, named by the variable FAIL_AT.

The steps are put around the product's methods from here, so that the product itself has no failpoints.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from shared.queue.outbox import Outbox
from shared.queue.running import RunningJob
from shared.queue.runs import Runs
from worker.__main__ import main
from worker.execution import Execution

MID_STREAM_DELTAS = 12
STEPS = ("claimed", "before_call", "mid_stream", "after_call", "after_settle")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def put(owner: type, method: str, replacement: Callable[..., Any]) -> None:
    """Replace a method. Raises AttributeError when the product no longer has it: a step would silently be gone."""
    getattr(owner, method)
    setattr(owner, method, replacement)


def before(owner: type, method: str) -> None:
    """Die when the method is entered."""

    def dying(*_: object, **__: object) -> None:
        die()

    put(owner, method, dying)


def after_deltas(count: int) -> None:
    """Die when so many deltas were handed over; the first of them have been written by then."""
    publish: Callable[..., None] = RunningJob.publish
    seen = 0

    def counted(job: RunningJob, *args: Any) -> None:
        nonlocal seen
        publish(job, *args)
        seen += 1
        if seen >= count:
            die()

    put(RunningJob, "publish", counted)


def after_settlement() -> None:
    """Die when Redis has taken the job's end and before the worker has done anything about it."""
    call: Callable[..., Any] = Outbox._call

    async def answered(outbox: Outbox, script: str, *args: Any) -> Any:
        reply = await call(outbox, script, *args)
        if script == "settle":
            die()
        return reply

    put(Outbox, "_call", answered)


def arm(step: str) -> None:
    """Prepare to die at this step."""
    match step:
        case "claimed":
            before(Runs, "start")
        case "before_call":
            before(Execution, "_call")
        case "mid_stream":
            after_deltas(MID_STREAM_DELTAS)
        case "after_call":
            before(Runs, "_settle")
        case "after_settle":
            after_settlement()
        case _:
            raise SystemExit(f"FAIL_AT must be one of {', '.join(STEPS)}")


if __name__ == "__main__":
    arm(os.environ["FAIL_AT"])
    main()
