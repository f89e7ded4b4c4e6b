"""The parts of an operation's JSON that every face shows alike. Pure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from shared.jobs import JobRecord
from shared.wire.codec import decode_operation_answer
from shared.wire.operations import HostProgress, OperationProgress

Body = dict[str, Any]


def progress_body(progress: OperationProgress) -> Body:
    return {
        **_done(progress.completed_bytes, progress.total_bytes),
        "hosts": [_host_progress(host) for host in progress.hosts],
    }


def result_body(record: JobRecord) -> Body | None:
    """What became of it on each host; None before its end, and if it failed everywhere."""
    if record.result is None:
        return None
    return {"hosts": [asdict(host) for host in decode_operation_answer(record.result).hosts]}


def error_body(record: JobRecord) -> Body | None:
    return None if record.error is None else {"code": record.error.code, "message": record.error.message}


def _host_progress(host: HostProgress) -> Body:
    return {"host": host.host, "status": host.status, **_done(host.completed_bytes, host.total_bytes)}


def _done(completed: int, total: int) -> Body:
    """Bytes; `percent` null while nothing is known of them."""
    return {
        "completed": completed,
        "total": total,
        "percent": round(100 * completed / total, 1) if total else None,
    }
