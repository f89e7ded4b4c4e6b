"""What the failures of servers of OpenAI's dialect mean: tables from code, text and status to Arriero's errors. Pure.

The envelope is the same everywhere, what is in it is not: an unknown model is a 404 with a code here, a 400 with a
sentence there. A code says most, then a known sentence, at last the status. Upstream text reaches the caller only
where it explains the caller's own mistake, and then without addresses, paths and keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from shared.backends.ollama_failure import Failure, quotable, unnest
from shared.errors import (
    ArrieroError,
    BackendBusy,
    BackendFault,
    BackendMisconfigured,
    BackendRejected,
    BackendTimeout,
    ModelFault,
    ModelLoading,
    ModelNotFound,
)

MAX_NOTED = 500
MAX_NAME = 200
MAX_RETRY_S = 3600.0
BUSY_RETRY_S = 1.0
LOADING_RETRY_S = 5.0

Verdict = Callable[[Failure], ArrieroError]
_KEYS = re.compile(r"\b(?:sk|pk|rk|gsk|xai|hf)[-_][\w*.-]{6,}|\bbearer\s+\S+", re.IGNORECASE)
_QUOTED_INPUT = re.compile(r"""["']input["']\s*:.*""", re.DOTALL)
"""Frameworks repeat what they refuse, and that may be a user's text."""
_STATUS_OF_TYPE = {
    "authentication_error": 401,
    "bad_request_error": 400,
    "badrequesterror": 400,
    "insufficient_quota": 429,
    "invalid_request_error": 400,
    "not_found_error": 404,
    "notfounderror": 404,
    "overloaded_error": 503,
    "permission_error": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "unavailable_error": 503,
}
"""For an error inside an answer whose status said 200: such a one often has no other status."""


def classify(
    status: int,
    body: str,
    *,
    endpoint: str,
    model: str = "",
    headers: Mapping[str, str] | None = None,
    secret: str = "",
) -> ArrieroError:
    """The error for an answer of `status` with `body`, whatever that is. `secret` is hidden wherever it shows up."""
    try:
        found = msgspec.json.decode(body.encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        found = None
    return _judge(status, found, body.strip(), endpoint, model, retry_after_s(headers or {}), secret)


def classify_event(error: Any, *, endpoint: str, model: str = "", secret: str = "") -> ArrieroError:
    """The error for an `error` inside an answer whose status said 200; `error` is decoded JSON."""
    return _judge(0, {"error": error}, "", endpoint, model, None, secret)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds from `retry-after-ms` or `Retry-After`; the date form is rare here and ignored."""
    for name, unit_s in (("retry-after-ms", 0.001), ("Retry-After", 1.0)):
        if re.fullmatch(r"\s*\d{1,9}(\.\d{1,9})?\s*", text := headers.get(name, "")):
            return min(float(text) * unit_s, MAX_RETRY_S)
    return None


def _judge(
    status: int, found: Any, raw: str, endpoint: str, model: str, wait_s: float | None, secret: str
) -> ArrieroError:
    error = _envelope(found)
    text: str = error["message"] if isinstance(error.get("message"), str) else ""
    code, kind = str(error.get("code") or ""), str(error.get("type") or "")
    # Servers put a number under `code` as often as a word.
    said = int(code) if re.fullmatch(r"[45]\d\d", code) else _STATUS_OF_TYPE.get(kind.lower(), 500)
    # An Ollama that is asked in this dialect passes its runner's whole error on as the text of its own.
    inner_status, message, nested_kind = unnest(status or said, text)
    failure = Failure(
        status=inner_status,
        text=_hidden(message or raw, secret),
        is_native=bool(text),
        endpoint=endpoint,
        model=model.strip()[:MAX_NAME],
        retry_after_s=wait_s,
    )
    verdict = _verdict(failure, code, nested_kind or kind)(failure)
    verdict.add_note(f"The model server answered {status or 200} to {endpoint}: {failure.text[:MAX_NOTED]}")
    return verdict


def _envelope(found: Any) -> dict[str, Any]:
    """`{"error": {...}}`, `{"error": "text"}`, and what two widespread frameworks say instead."""
    if not isinstance(found, dict):
        return {}
    error = found.get("error", found.get("detail", found))
    return error if isinstance(error, dict) else {"message": error}


def _hidden(text: str, secret: str) -> str:
    """The text without keys, and without what it repeats of the request."""
    text = _KEYS.sub("<hidden>", text.replace(secret, "<hidden>") if secret else text)
    return _QUOTED_INPUT.sub("<hidden>", text)


def _verdict(failure: Failure, code: str, kind: str) -> Verdict:
    for word in (code.lower(), kind.lower()):
        if word in BY_CODE:
            return BY_CODE[word]
    if failure.is_native and failure.status not in (401, 429):
        for pattern, verdict in BY_TEXT:
            if pattern.search(failure.text):
                return verdict
    if failure.status in BY_STATUS:
        return BY_STATUS[failure.status]
    if failure.status >= 500:
        return _fault
    return _rejected if failure.status >= 400 else _misconfigured


def _busy(failure: Failure) -> ArrieroError:
    wait_s = max(BUSY_RETRY_S, failure.retry_after_s or 0.0)
    return BackendBusy(
        f"The service is at its limit for this account. Try again in {wait_s:g} s.", retry_after_s=wait_s
    )


def _unavailable(failure: Failure) -> ArrieroError:
    return _busy(failure) if failure.retry_after_s is not None else _fault(failure)


def _timed_out(failure: Failure) -> ArrieroError:
    return BackendTimeout("The service gave up on this request after its own time limit. Try again, or ask for less.")


def _loading(failure: Failure) -> ArrieroError:
    return ModelLoading(f"'{failure.model}' is still loading. Try again shortly.", retry_after_s=LOADING_RETRY_S)


def _no_key(failure: Failure) -> ArrieroError:
    return BackendMisconfigured(
        f"The service does not accept its API key (HTTP {failure.status}). An operator must check the key, and what "
        "it may be used for."
    )


def _no_credit(failure: Failure) -> ArrieroError:
    return BackendMisconfigured("The service's account has no credit left. An operator must look after it.")


def _misconfigured(failure: Failure) -> ArrieroError:
    return BackendMisconfigured(
        f"The server does not take this call (HTTP {failure.status}). An operator must check the service's URL, which "
        "ends in /v1 for most servers, and its api_format."
    )


def _not_found(failure: Failure) -> ArrieroError:
    return _no_model(failure) if failure.is_native and failure.model else _misconfigured(failure)


def _no_model(failure: Failure) -> ArrieroError:
    return ModelNotFound(
        f"The service does not have the model '{failure.model}'. Ask it for its models, or load that one there.",
        param="model",
    )


def _too_long(failure: Failure) -> ArrieroError:
    return BackendRejected(
        f"The request is longer than '{failure.model}' can read. Shorten it, or choose a model with a larger context"
        f"{_because(failure)}",
        param="messages",
    )


def _filtered(failure: Failure) -> ArrieroError:
    return BackendRejected("The service's content filter refused the request. Change its wording.")


def _cannot(failure: Failure) -> ArrieroError:
    return BackendRejected(f"'{failure.model}' cannot do this at this service{_because(failure)}", param="model")


def _rejected(failure: Failure) -> ArrieroError:
    return BackendRejected(f"The service refused the request as invalid{_because(failure)}")


def _because(failure: Failure) -> str:
    reason = quotable(failure) if failure.is_native else ""
    return f": {reason}" if reason else "."


def _out_of_memory(failure: Failure) -> ArrieroError:
    return ModelFault(f"The server has too little memory for '{failure.model}' now.")


def _not_loadable(failure: Failure) -> ArrieroError:
    return ModelFault(f"The server could not load '{failure.model}'. See its log.")


def _fault(failure: Failure) -> ArrieroError:
    return BackendFault(
        f"The server reported an internal error (HTTP {failure.status}). Try again; if this goes on, see its log."
    )


BY_CODE: dict[str, Verdict] = {
    "content_filter": _filtered,
    "content_policy_violation": _filtered,
    "context_length_exceeded": _too_long,
    "exceed_context_size_error": _too_long,
    "insufficient_quota": _no_credit,
    "invalid_api_key": _no_key,
    "model_not_found": _no_model,
    "not_supported_error": _cannot,
    "overloaded_error": _busy,
    "rate_limit_exceeded": _busy,
    "server_overloaded": _busy,
    "unavailable_error": _loading,
}
"""The error's `code`, else its `type`: the surest sign where there is one."""

BY_TEXT: list[tuple[re.Pattern[str], Verdict]] = [
    (re.compile(pattern, re.IGNORECASE), verdict)
    for pattern, verdict in (
        (r"^(file )?not found\.?$|^invalid url", _misconfigured),
        (r"maximum context length|context (length|size|window)|too many tokens|prompt is too long", _too_long),
        (
            r"is not a valid model|model\b.*\b(does not exist|not found|not exist)|no endpoints found for"
            r"|no models? (is |are )?loaded",
            _no_model,
        ),
        (r"flagged|moderation|content (policy|management)", _filtered),
        (
            r"does not support (tools|images?|embeddings|thinking)|no endpoints found that|not supported by this model"
            r"|image input is not supported|start it with `?--embeddings",
            _cannot,
        ),
        (r"out of memory|failed to allocate", _out_of_memory),
        (r"^\d+ validation errors?:", _rejected),
        (r"(failed|could not|unable) (to )?load (the )?model|model failed to load", _not_loadable),
    )
]
"""Read from the top, for any status but those that are plain by themselves."""

BY_STATUS: dict[int, Verdict] = {
    400: _rejected,
    401: _no_key,
    402: _no_credit,
    403: _no_key,
    404: _not_found,
    405: _misconfigured,
    408: _timed_out,
    413: _too_long,
    429: _busy,
    501: _cannot,
    503: _unavailable,
    529: _busy,
}
