"""Which failures speak against the model or its host, and which are the caller's. Pure."""

from __future__ import annotations

from shared.errors import BY_CODE, AnswerIncomplete, ArrieroError, BackendError, BackendMisconfigured

_FAULTS: tuple[type[ArrieroError], ...] = (AnswerIncomplete, BackendMisconfigured)


def is_fault(code: str) -> bool:
    """Whether a failure with this code speaks against the model or its host. A code of a later release does.

    Requests that were refused, deadlines that the caller set, and a host that is only full do not.
    """
    error = BY_CODE.get(code)
    if error is None or error is BackendError:
        return True
    return error.trips_breaker or error in _FAULTS
