"""A dead letter as JSON, alike over HTTP and from the command."""

from __future__ import annotations

from typing import Any

from shared.jobs import JobRecord
from shared.queue.dead_letters import Replayed, ReplayedMany
from shared.wire.openai_render import job_body

_NOT_SHOWN = ("object", "queue", "result", "cancel_requested", "scheduled_for")


def dead_letter_body(job: JobRecord) -> dict[str, Any]:
    """The job with why and after what it was set aside. Its attempts are the history of its errors."""
    body = {name: value for name, value in job_body(job).items() if name not in _NOT_SHOWN}
    return {
        **body,
        "object": "dead_letter",
        "tenant": job.tenant,
        "reason": job.dead_letter_reason,
        "failures": job.failures,
        "crashes": job.crashes,
        "replay_of": job.replay_of or None,
        "replayed_as": job.replayed_as or None,
    }


def replayed_body(replayed: Replayed) -> dict[str, Any]:
    return {
        "object": "dead_letter.replay",
        "id": replayed.id,
        "replay_of": replayed.replay_of,
        "before": replayed.before,
    }


def replayed_many_body(outcome: ReplayedMany) -> dict[str, Any]:
    refused = outcome.refused
    return {
        "object": "dead_letter.replays",
        "data": [replayed_body(each) for each in outcome.replayed],
        "without_payload": outcome.without_payload,
        "refused": None if refused is None else {"code": refused.code, "retry_after_seconds": refused.retry_after_s},
    }
