"""From how a run ended to what the queue is told of it. Pure, so that each way to end stands here once."""

from __future__ import annotations

from dataclasses import dataclass

from arq.worker import Retry

from shared.errors import ArrieroError, ErrorRecord, JobCancelled, JobExpired
from shared.queue.running import HandBack, RetryLater, StopReason, Verdict

NO_ERROR = ErrorRecord(code="", message="")


@dataclass(slots=True, frozen=True)
class Ending:
    """How a run ended. `value`: its answer, or its error. `delay_s`: until the job may run again."""

    verdict: Verdict
    value: bytes | ErrorRecord
    delay_s: float = 0.0
    handed_back_for: ErrorRecord | None = None
    """Goes on the job's timeline, though the run did not fail."""

    @property
    def error(self) -> ErrorRecord | None:
        return self.value if isinstance(self.value, ErrorRecord) else None


STOPPED = {
    StopReason.CANCELLED: Ending(Verdict.CANCELLED, JobCancelled().record()),
    StopReason.EXPIRED: Ending(Verdict.EXPIRED, JobExpired().record()),
    StopReason.DRAIN: Ending(Verdict.RELEASED, NO_ERROR),
    StopReason.LOST: Ending(Verdict.RELEASED, NO_ERROR),
}
"""Of runs that were stopped from outside."""
CRASHED = Ending(
    Verdict.DEAD_LETTERED, ArrieroError("The worker met an unexpected error; its log names the job.").record()
)
"""Of a run whose function raised what none may raise: a fault in our code."""


def ending_of(error: Exception) -> Ending:
    """Of a run whose function raised `error`."""
    match error:
        case RetryLater():
            return Ending(Verdict.RETRIED, error.error.record(), error.delay_s)
        case HandBack():
            return Ending(Verdict.RELEASED, NO_ERROR, error.delay_s, _reason(error) if error.reason else None)
        case Retry():  # arq's own way to ask for another run
            asked = ArrieroError("The job asked to run again.")
            return Ending(Verdict.RETRIED, asked.record(), (error.defer_score or 0) / 1000)
        case JobExpired():
            return Ending(Verdict.EXPIRED, error.record())
        case ArrieroError():
            return Ending(Verdict.DEAD_LETTERED, error.record())
        case _:
            return CRASHED


def _reason(back: HandBack) -> ErrorRecord:
    return ErrorRecord(code=back.reason, message="Handed back to the queue.", retry_after_s=back.delay_s)
