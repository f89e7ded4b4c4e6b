"""What a call's end says about the health of its host and of its model there.

| end of the call                                    | host     | model on that host |
|----------------------------------------------------|----------|--------------------|
| an answer                                          | success  | success            |
| no connection, reset before the answer, DNS, TLS   | failure  | ignored            |
| 5xx, garbage, broken off, runner crashed           | ignored  | failure            |
| too slow, and the host does not answer a question  | failure  | ignored            |
| too slow, and the model is not in memory           | ignored  | ignored            |
| silent for the whole limit, the model in memory    | ignored  | failure            |
| too slow otherwise: the total, a deadline's limit  | ignored  | ignored            |
| busy, 4xx, still loading, cancelled, job's deadline| ignored  | ignored            |

A broken model must not close its healthy neighbours, so only what keeps all of them from being reached counts against
a host. From a silent call alone nobody can tell a hanging host from a model that is being loaded (a large one takes
minutes), so after a timeout the host is asked which models it has in memory: one that is loading is not listed yet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from shared.backends.base import LoadedModel
from shared.errors import ArrieroError, BackendTimeout, BackendUnreachable
from shared.model_names import same

AskLoaded = Callable[[], Awaitable[Sequence[LoadedModel]]]
"""The models in the host's memory; raises an ArrieroError or TimeoutError when it does not say."""


class Outcome(StrEnum):
    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"


@dataclass(slots=True, frozen=True)
class Judgement:
    """One outcome for each scope; `reason` is the error's code."""

    host: Outcome
    model: Outcome
    reason: str = ""


WELL = Judgement(Outcome.SUCCESS, Outcome.SUCCESS)
NO_VERDICT = Judgement(Outcome.IGNORED, Outcome.IGNORED)


def judge(error: BaseException | None) -> Judgement:
    """The table above, without the question after a timeout: a timeout is then held against the host."""
    if error is None:
        return WELL
    if not isinstance(error, ArrieroError) or not error.trips_breaker:
        return NO_VERDICT
    if isinstance(error, BackendUnreachable | BackendTimeout):
        return Judgement(Outcome.FAILURE, Outcome.IGNORED, error.code)
    return Judgement(Outcome.IGNORED, Outcome.FAILURE, error.code)


async def judge_silence(error: BackendTimeout, model: str, ask: AskLoaded, *, full_wait: bool) -> Judgement:
    """The table's lines for a call that was too slow. `ask` must have a time limit of its own; `full_wait` is False
    where the job's deadline had cut the call's limits short."""
    try:
        loaded = await ask()
    except (ArrieroError, TimeoutError):
        return Judgement(Outcome.FAILURE, Outcome.IGNORED, error.code)
    if full_wait and error.limit != "total" and any(same(model) == same(found.name) for found in loaded):
        return Judgement(Outcome.IGNORED, Outcome.FAILURE, error.code)
    return NO_VERDICT
