"""The request inside a stored job, read as plain data: to show it, redacted or not, or to ask another model. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from shared.errors import UndecodableJob
from shared.queue.lines import line_named, unit_of
from shared.wire.codec import MAX_PAYLOAD_BYTES, encode

_SHOWN_AS_IS = frozenset({"model", "role", "type"})


def request_of(payload: bytes) -> dict[str, Any] | None:
    """The request; None when the bytes are no stored job."""
    job = _plain(payload)
    return None if job is None else dict(job["k"]["request"])


def for_model(payload: bytes, model: str) -> bytes:
    """The stored job, asking for another model and no longer for its route; whatever else it says stays, also that it
    must not leave our machines. Raises UndecodableJob."""
    job = _plain(payload)
    if job is None:
        raise UndecodableJob("The stored job cannot be read by this version, so its model cannot be changed.")
    job["k"]["request"]["model"] = model
    job["k"].pop("route", None)
    job["k"].pop("cache_as", None)  # its answer is no other model's
    return encode(job)


def line_of(payload: bytes) -> str:
    """The line that a stored job, as `for_model` gives it, waits in."""
    job = _plain(payload) or {}
    request = job["k"]["request"]
    options = request.get("options") or request.get("sampling", {}).get("options")
    return line_named(job["f"], unit_of(request["model"], options))


def redacted(value: Any, name: str = "") -> Any:
    """The same shape with every text replaced by its length, bar a few that hold no user's words."""
    if isinstance(value, dict):
        return {key: redacted(part, key) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(part) for part in value]
    if isinstance(value, str | bytes) and name not in _SHOWN_AS_IS:
        return length(value)
    return value


def length(text: str | bytes) -> str:
    """What is shown in place of a text."""
    return f"({len(text)} {'characters' if isinstance(text, str) else 'bytes'})" if text else ""


def _plain(payload: bytes) -> dict[str, Any] | None:
    if len(payload) > MAX_PAYLOAD_BYTES:
        return None
    try:
        job: dict[str, Any] = msgspec.msgpack.decode(payload)
        return job if isinstance(job["k"]["request"], dict) else None
    except (msgspec.MsgspecError, RecursionError, ValueError, KeyError, TypeError):
        return None
