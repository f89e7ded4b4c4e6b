"""Which ends of a call count, and against whom."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from shared import errors
from shared.backends.base import LoadedModel
from shared.resilience.judgement import NO_VERDICT, Outcome, judge, judge_silence

SUCCESS, FAILURE, IGNORED = Outcome.SUCCESS, Outcome.FAILURE, Outcome.IGNORED


@pytest.mark.req("S1-13")
@pytest.mark.parametrize(
    ("error", "host", "model"),
    [
        (None, SUCCESS, SUCCESS),
        (errors.BackendUnreachable(), FAILURE, IGNORED),
        (errors.BackendTimeout(), FAILURE, IGNORED),
        (errors.BackendFault(), IGNORED, FAILURE),
        (errors.BackendProtocolError(), IGNORED, FAILURE),
        (errors.ModelFault(), IGNORED, FAILURE),
        (errors.ModelLoading(), IGNORED, IGNORED),
        (errors.AnswerIncomplete(), IGNORED, IGNORED),
        (errors.BackendBusy(), IGNORED, IGNORED),
        (errors.BackendRejected(), IGNORED, IGNORED),
        (errors.ModelNotFound(), IGNORED, IGNORED),
        (errors.BackendMisconfigured(), IGNORED, IGNORED),
        (errors.JobExpired(), IGNORED, IGNORED),
        (errors.JobCancelled(), IGNORED, IGNORED),
        (asyncio.CancelledError(), IGNORED, IGNORED),
        (RuntimeError(), IGNORED, IGNORED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_whom_an_error_counts_against(error: BaseException | None, host: Outcome, model: Outcome) -> None:
    found = judge(error)
    assert (found.host, found.model) == (host, model)


async def silent() -> Sequence[LoadedModel]:
    raise TimeoutError


async def refusing() -> Sequence[LoadedModel]:
    raise errors.BackendUnreachable


async def loading() -> Sequence[LoadedModel]:
    return [LoadedModel(name="mistral:latest")]


async def resident() -> Sequence[LoadedModel]:
    return [LoadedModel(name="mistral:latest"), LoadedModel(name="llama3.2:latest")]


@pytest.mark.parametrize("limit", ["first_byte", "gap"])
async def test_a_silence_is_looked_into(limit: str) -> None:
    error = errors.BackendTimeout()
    error.limit = limit
    for ask in (silent, refusing):
        found = await judge_silence(error, "llama3.2", ask, full_wait=True)
        assert (found.host, found.model) == (FAILURE, IGNORED)
    assert await judge_silence(error, "llama3.2", loading, full_wait=True) == NO_VERDICT
    found = await judge_silence(error, "llama3.2", resident, full_wait=True)
    assert (found.host, found.model) == (IGNORED, FAILURE)


async def test_the_jobs_own_deadline_is_nobodys_fault() -> None:
    error = errors.BackendTimeout()
    error.limit = "first_byte"
    assert await judge_silence(error, "llama3.2", resident, full_wait=False) == NO_VERDICT
    error.limit = "total"
    assert await judge_silence(error, "llama3.2", resident, full_wait=True) == NO_VERDICT
