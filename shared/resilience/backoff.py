"""When to try again."""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import ArrieroError


@dataclass(slots=True, frozen=True, kw_only=True)
class RetryPolicy:
    """`tries` in all, the first included; pauses in seconds."""

    tries: int = 3
    base_s: float = 0.5
    cap_s: float = 30.0


def backoff_s(attempt: int, *, base_s: float, cap_s: float, unit: float) -> float:
    """Seconds to wait after try `attempt` (from 1): full jitter, `unit` in [0, 1) drawn by the caller.

    Source: Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    """
    # The exponent stops at 63: 2.0**1024 raises OverflowError, and every cap is long passed by then.
    return unit * min(cap_s, base_s * 2.0 ** min(attempt - 1, 63))


def retry_delay_s(
    error: ArrieroError, failures: int, policy: RetryPolicy, *, repeatable: bool, unit: float
) -> float | None:
    """Seconds until the next try after `failures` earlier ones and this error; None when there is to be none.

    `repeatable` is False once the client has seen part of an answer and could not tell a second one from its
    continuation. What the backend asked for (Retry-After) is a floor under the backoff.
    """
    if not (error.retryable and repeatable) or failures + 1 >= policy.tries:
        return None
    pause = backoff_s(failures + 1, base_s=policy.base_s, cap_s=policy.cap_s, unit=unit)
    return max(pause, error.retry_after_s or 0.0)
