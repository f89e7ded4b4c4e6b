"""A failure as Ollama reports it, taken apart: the JSON, the runner's error nested in it, what may be shown. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

MAX_QUOTED = 500


@dataclass(slots=True, frozen=True, kw_only=True)
class Failure:
    """One failure as Ollama reported it. `status` is the runner's own where it is nested in the text."""

    status: int
    text: str
    is_native: bool
    """The body was JSON with an `error`, so it comes from Ollama and not from something in between."""
    endpoint: str
    model: str
    retry_after_s: float | None


def error_text(body: str) -> tuple[str, bool]:
    """The `error` of a JSON body; else the body itself, marked as foreign."""
    try:
        found = msgspec.json.decode(body.encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return body.strip(), False
    error = found.get("error") if isinstance(found, dict) else None
    if isinstance(error, dict):
        error = error.get("message")
    return (error, True) if isinstance(error, str) else (body.strip(), False)


def unnest(status: int, text: str) -> tuple[int, str, str]:
    """(status, message, type) of the runner's JSON that Ollama passes on as a string, possibly behind a prefix."""
    start = text.find('{"error"')
    if start >= 0:
        try:
            inner = msgspec.json.decode(text[start:].encode("utf-8", "replace"))["error"]
            code = int(inner.get("code", status))
            is_error = 400 <= code < 600
            return code if is_error else status, str(inner.get("message", "")), str(inner.get("type", ""))
        except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
            pass
    return status, text, ""


def seconds(header: str | None) -> float | None:
    """Retry-After in seconds; its date form is rare here and ignored."""
    return min(float(header), 3600.0) if header is not None and re.fullmatch(r"\s*\d{1,9}\s*", header) else None


_OWN_REGISTRY = re.compile(r"\bregistry\.ollama\.ai/(?:library/)?")
_ADDRESSES = re.compile(
    r"\b[a-z][a-z0-9+.-]*://[^\s\"']+"  # URLs
    r"|\[[0-9a-f:]*:[0-9a-f:]*\](?::\d+)?|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"  # IP addresses
    r"|(?<![\w.>)\]/])/(?:[\w.@+-]+/)+[\w.@+:-]*"  # absolute paths
    r"|\b[a-z]:\\[^\s\"']+"
    r"|\b(?:localhost|[a-z0-9-]+(?:\.[a-z0-9-]+)+):\d{2,5}\b",  # host:port
    re.IGNORECASE,
)


def quotable(failure: Failure) -> str:
    """The upstream's reason in a form that may be shown: one line, bounded, without addresses and paths."""
    text = _OWN_REGISTRY.sub("", failure.text)
    text = _ADDRESSES.sub("<hidden>", text)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:MAX_QUOTED]
