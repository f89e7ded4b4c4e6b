"""What the failures of the Messages API mean: tables from its error's type, else from the status, to ours. Pure.

The service's text reaches the caller only where it explains the caller's own mistake, and then without addresses. The
whole of it is attached for operators as a note. The key is in neither.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from shared.backends.ollama_failure import Failure, quotable, seconds
from shared.errors import (
    AnswerIncomplete,
    ArrieroError,
    BackendBusy,
    BackendError,
    BackendFault,
    BackendMisconfigured,
    BackendProtocolError,
    BackendRejected,
    ModelNotFound,
)

BUSY_RETRY_S = 1.0
OVERLOADED_RETRY_S = 5.0
MAX_NOTED = 500
MAX_NAME = 200

Verdict = Callable[[Failure], ArrieroError]


class ServiceError(msgspec.Struct):
    """The `error` of a body or of a stream's event."""

    type: str = ""
    message: str = ""


class _Body(msgspec.Struct):
    error: ServiceError


_BODY = msgspec.json.Decoder(_Body)


def classify(
    status: int, body: str, *, endpoint: str, model: str = "", retry_after: str | None = None, secret: str = ""
) -> ArrieroError:
    """The error for an answer of `status` with `body`, whatever that is. `retry_after` is the header's text, `secret`
    what must not be repeated."""
    text = _without(body, secret)
    try:
        error = _BODY.decode(text.encode("utf-8", "replace")).error
    except (ValueError, RecursionError):
        return _judge(status, ServiceError(message=text.strip()), False, endpoint, model, seconds(retry_after))
    return _judge(status, error, True, endpoint, model, seconds(retry_after))


def classify_event(error: ServiceError, *, endpoint: str, model: str = "", secret: str = "") -> ArrieroError:
    """The error for an `error` event inside an answer whose status said 200."""
    shown = ServiceError(type=error.type, message=_without(error.message, secret))
    return _judge(500, shown, True, endpoint, model, None)


def incomplete(seen: bool) -> AnswerIncomplete:
    """The error for a stream that ended in good order, but without `message_stop`."""
    what = "stopped before it was complete" if seen else "was empty"
    return AnswerIncomplete(f"The service's answer {what}. Try again.")


def not_understood(what: str, exc: BaseException | None = None) -> BackendProtocolError:
    """The error for bytes that are not what the API promises. They stay out of it, since they may be a user's text."""
    error = BackendProtocolError(f"The service's answer was not understood: {what}.")
    if exc is not None:
        error.add_note(str(exc))
    return error


def _without(text: str, secret: str) -> str:
    return text.replace(secret, "<hidden>") if secret else text


def _judge(
    status: int, error: ServiceError, is_native: bool, endpoint: str, model: str, retry_after_s: float | None
) -> ArrieroError:
    failure = Failure(
        status=status,
        text=error.message,
        is_native=is_native,
        endpoint=endpoint,
        model=model.strip()[:MAX_NAME],
        retry_after_s=retry_after_s,
    )
    found = _verdict(failure, error.type)(failure)
    found.add_note(f"The service answered {status} to {endpoint}: {error.type} {error.message[:MAX_NOTED]}")
    return found


def _verdict(failure: Failure, kind: str) -> Verdict:
    if kind == "invalid_request_error" and _NO_MONEY.search(failure.text):
        return _unpaid
    if kind in BY_TYPE:
        return BY_TYPE[kind]
    if failure.status in BY_STATUS:
        return BY_STATUS[failure.status]
    if failure.status >= 500:
        return _fault if failure.retry_after_s is None else _busy
    # Below 400 is a redirect, which the API never answers.
    return _rejected if failure.status >= 400 and failure.is_native else _misconfigured


def _busy(failure: Failure) -> ArrieroError:
    wait_s = max(BUSY_RETRY_S, failure.retry_after_s or 0.0)
    return BackendBusy(f"The service takes no more calls for now. Try again in {wait_s:g} s.", retry_after_s=wait_s)


def _overloaded(failure: Failure) -> ArrieroError:
    wait_s = max(OVERLOADED_RETRY_S, failure.retry_after_s or 0.0)
    return BackendBusy(f"The service is overloaded. Try again in {wait_s:g} s.", retry_after_s=wait_s)


def _not_found(failure: Failure) -> ArrieroError:
    if not (failure.is_native and failure.model):
        return _misconfigured(failure)
    return ModelNotFound(f"The service has no model '{failure.model}', or not for this key.", param="model")


def _rejected(failure: Failure) -> ArrieroError:
    reason = quotable(failure) if failure.is_native else ""
    return BackendRejected(
        f"The service refused the request: {reason}" if reason else "The service refused the request as invalid."
    )


def _too_large(failure: Failure) -> ArrieroError:
    return BackendRejected("The request is larger than the service takes. Shorten the conversation.")


def _misconfigured(failure: Failure) -> ArrieroError:
    return BackendMisconfigured(
        f"The service does not take this call (HTTP {failure.status}). An operator must check its URL and its key."
    )


def _unpaid(failure: Failure) -> ArrieroError:
    return BackendMisconfigured("The service's account has no credit left for this call. An operator must look at it.")


def _conflict(failure: Failure) -> ArrieroError:
    return BackendError("The service could not take the call at this moment. Try again.")


def _fault(failure: Failure) -> ArrieroError:
    return BackendFault("The service reported an internal error. Try again.")


_NO_MONEY = re.compile(r"credit balance|usage limit|spend limit|billing", re.IGNORECASE)

BY_TYPE: dict[str, Verdict] = {
    "invalid_request_error": _rejected,
    "authentication_error": _misconfigured,
    "billing_error": _unpaid,
    "permission_error": _misconfigured,
    "not_found_error": _not_found,
    "request_too_large": _too_large,
    "rate_limit_error": _busy,
    "timeout_error": _fault,
    "api_error": _fault,
    "overloaded_error": _overloaded,
}
"""The API's own word for its error, the surest sign where there is one."""

BY_STATUS: dict[int, Verdict] = {
    400: _rejected,
    401: _misconfigured,
    402: _unpaid,
    403: _misconfigured,
    404: _not_found,
    405: _misconfigured,
    408: _conflict,
    409: _conflict,
    413: _too_large,
    429: _busy,
    529: _overloaded,
}
