"""Where a job may run travels with it: into its payload, its record, and what is made of it later."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from shared.errors import BackendRejected, ErrorRecord, shown
from shared.queue.client import QueueClient
from shared.queue.running import RunningJob
from shared.queue.stored_requests import for_model
from shared.routes import Candidate, Route
from shared.wire.codec import JobSpec, decode_job, encode_job
from tests.conftest import WaitUntil
from tests.shared.queue.rig import ANSWER, chat, working

ROUTE = Route(candidates=(Candidate("openai", "gpt"), Candidate("ollama", "llama3.2")), reason="code")


def stored(**fields: Any) -> JobSpec[Raw]:
    job = chat(**fields)
    payload = encode_job(
        job.kind, job.request, restartable=False, enqueued_ms=1, route=job.route, local_only=job.local_only,
        no_store=job.no_store, cache_as=job.cache_as,
    )  # fmt: skip
    return decode_job(payload).k


@pytest.mark.req("C20", "S3-13")
def test_a_job_that_must_stay_is_not_kept_either_and_says_so_by_itself() -> None:
    assert (stored().local_only, stored().no_store, stored().route) == (False, False, None)
    assert stored(route=ROUTE).route == ROUTE
    for fields in ({"local_only": True}, {"route": Route(candidates=ROUTE.candidates, local_only=True)}):
        spec = stored(**fields)
        assert (spec.local_only, spec.no_store) == (True, True)
    assert not stored(no_store=True).local_only


@pytest.mark.req("C20")
def test_for_another_model_a_job_loses_its_route_and_nothing_else() -> None:
    job = chat()
    payload = encode_job(
        job.kind, job.request, restartable=True, enqueued_ms=7, tenant="t", local_only=True, route=ROUTE,
        request_id="r", cache_as="digest",
    )  # fmt: skip
    before, after = decode_job(payload).k, decode_job(for_model(payload, "openai~gpt")).k
    assert (after.route, after.cache_as) == (None, "")
    assert (after.local_only, after.no_store) == (True, True)
    assert (after.tenant, after.request_id, after.restartable, after.v) == (
        before.tenant, before.request_id, before.restartable, before.v,
    )  # fmt: skip


@pytest.mark.req("S4-51")
async def test_the_worker_and_the_record_have_the_route(
    client: QueueClient, redis_url: str, wait_until: WaitUntil
) -> None:
    seen: list[tuple[Route | None, bool, bool]] = []

    async def note(ctx: dict[str, Any], job: RunningJob) -> bytes:
        seen.append((job.route, job.local_only, job.no_store))
        return ANSWER

    plain, routed = chat(), chat(route=ROUTE, local_only=True, metadata={"a": "b"})
    async with working(redis_url, note):
        for job in (plain, routed):
            await client.enqueue(job)
        await wait_until(lambda: len(seen) == 2, description="both ran")
    assert sorted(seen, key=lambda one: one[1]) == [(None, False, False), (ROUTE, True, True)]
    record, other = await client.get(routed.id), await client.get(plain.id)
    assert record is not None
    assert other is not None
    assert (record.route, record.metadata) == (ROUTE, {"a": "b"})
    assert (other.route, other.metadata) == (None, {})


def test_only_the_caller_sees_words_that_may_be_the_callers() -> None:
    refused = BackendRejected("The server refused: how to hum").record()
    assert shown(refused) == "(30 characters)"
    assert shown(ErrorRecord(code="backend_busy", message="At its limit.")) == "At its limit."
