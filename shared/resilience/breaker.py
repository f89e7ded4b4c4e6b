"""The circuit breaker's states and moves. Pure: the time is a parameter, nothing is awaited, nothing is drawn.

    CLOSED     --a telling row of failures, or `failure_rate` of at least `min_calls` within `window_s`--> OPEN
    OPEN       --its time is over--> HALF_OPEN                   no call goes out meanwhile
    HALF_OPEN  --`successes_to_close` successes--> CLOSED        one call at a time, under a permit
               --a failure of the call that holds the permit--> OPEN, for twice as long, up to `open_cap_s`

A row of `failures` tells, unless some calls of the window failed anyway: then it takes as many as chance would hardly
make, so that a backend that fails every tenth call is not cut off for it, however many calls there are. Calls that
are still under way count as if they succeeded: of a crowd that began together the failures are the first to be back.

A circuit that opens again soon after it closed goes on doubling: else a backend that fails every other call would
make it change state without end. The result of a call that began before the last change says nothing about the
present and is ignored; a generation counter tells. Whoever holds a permit too long (it died, or the backend hangs)
loses it to the next caller; its late failure does not count, its late success does, since the backend lives.

Compare Hystrix (rate and streak), Envoy's outlier detection (growing ejection), gobreaker (generations).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import StrEnum

BUCKETS = 10
"""Parts of the window; results leave it in such steps."""
JITTER = 0.1
"""An open time is shortened by up to this share, so that workers without a common Redis do not probe in step."""
CHANCE = 1e-4
"""How many telling rows a window may show by mere chance, at most."""


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(slots=True, frozen=True, kw_only=True)
class BreakerPolicy:
    """When a circuit opens and closes. Times in seconds."""

    failures: int = 5
    window_s: float = 30.0
    failure_rate: float = 0.5
    min_calls: int = 10
    open_s: float = 5.0
    open_cap_s: float = 60.0
    successes_to_close: int = 1
    probe_lease_s: float = 30.0

    @property
    def quiet_s(self) -> float:
        """Closed for so long, a circuit starts over with the shortest open time."""
        return self.open_cap_s


def open_time_s(openings: int, policy: BreakerPolicy, unit: float) -> float:
    """How long the `openings`-th opening in a row (from 1) lasts; `unit` in [0, 1) is drawn by the caller."""
    # The exponent stops at 63 so that no count can overflow a float; every cap is passed by then.
    longest = min(policy.open_cap_s, policy.open_s * 2.0 ** min(openings - 1, 63))
    return longest * (1.0 - JITTER * unit)


def telling_row(calls: int, failures: int, policy: BreakerPolicy) -> int:
    """How many failures in a row tell that a backend is gone, after `calls` of which `failures` failed one by one.

    Among so many calls chance makes a row of k about calls * share**k times; that has to stay below `CHANCE`.
    """
    if calls < policy.min_calls or not failures:
        return policy.failures
    return max(policy.failures, math.ceil(math.log(calls / CHANCE) / math.log(calls / failures)))


class Generations:
    """Numbers the changes of all circuits of a process, so that one number dates a call for each circuit it uses."""

    __slots__ = ("current",)

    def __init__(self) -> None:
        self.current = 0

    def next(self) -> int:
        self.current += 1
        return self.current


class Window:
    """Results of the last `span_s` seconds and the failures in a row."""

    __slots__ = ("_bad", "_ends", "_good", "_past", "_step_s", "streak")

    def __init__(self, span_s: float) -> None:
        self._step_s = span_s / BUCKETS
        self.clear()

    def clear(self) -> None:
        self.streak = 0
        self._good = self._bad = 0
        self._ends = float("-inf")
        self._past: deque[tuple[float, int, int]] = deque()

    def succeeded(self, now: float) -> None:
        if now >= self._ends:
            self._turn(now)
        self._good += 1
        self.streak = 0

    def failed(self, now: float) -> None:
        if now >= self._ends:
            self._turn(now)
        self._bad += 1
        self.streak += 1

    def _turn(self, now: float) -> None:
        if self._good or self._bad:
            self._past.append((self._ends, self._good, self._bad))
            self._good = self._bad = 0
        self._ends = now + self._step_s
        while self._past and self._past[0][0] <= now - self._step_s * (BUCKETS - 1):
            self._past.popleft()

    def before_row(self) -> tuple[int, int]:
        """(calls, failures) within the window, those of the present row left out."""
        calls, failures = self.totals()
        row = min(self.streak, failures)
        return calls - row, failures - row

    def totals(self) -> tuple[int, int]:
        """(calls, failures) within the window, as of the last result."""
        bad = self._bad + sum(past[2] for past in self._past)
        return self._good + bad + sum(past[1] for past in self._past), bad


class Breaker:
    """One circuit as one process sees it. `now` is any monotonic clock's reading in seconds, `began` the generation
    at which a call was let go, `token` the permit it held, empty for none."""

    __slots__ = (
        *("state", "openings", "permit", "window", "generation", "_policy", "_generations"),
        *("_changed_at", "_until", "_permit_until", "_successes", "_succeeded_at"),
    )

    def __init__(self, policy: BreakerPolicy, generations: Generations) -> None:
        self._policy = policy
        self._generations = generations
        self.state = BreakerState.CLOSED
        self.window = Window(policy.window_s)
        self.openings = 0
        """Openings in a row, each within `quiet_s` of the closing before."""
        self.generation = 0
        self.permit = ""
        self._changed_at = float("-inf")
        self._until = float("-inf")
        self._permit_until = float("-inf")
        self._successes = 0
        self._succeeded_at = float("-inf")

    # -- asking -----------------------------------------------------------------------------------------------------

    def look(self, now: float) -> BreakerState:
        """The state at `now`: an open circuit whose time is over becomes half-open."""
        if self.state is BreakerState.OPEN and now >= self._until:
            self._change(BreakerState.HALF_OPEN, now)
        return self.state

    def wait_s(self, now: float) -> float:
        """Seconds until a call can go out: the rest of the open time, or of the permit that somebody holds."""
        match self.look(now):
            case BreakerState.OPEN:
                return self._until - now
            case BreakerState.HALF_OPEN if self.permit:
                return max(0.0, self._permit_until - now)
        return 0.0

    def take_permit(self, token: str, now: float) -> bool:
        """Let the call `token` go as the one probe of a half-open circuit; False while another holds the permit."""
        if self.look(now) is not BreakerState.HALF_OPEN or self.wait_s(now) > 0:
            return False
        self.permit = token
        self._permit_until = now + self._policy.probe_lease_s
        return True

    # -- results; each says whether the state changed ---------------------------------------------------------------

    def succeeded(self, began: int, now: float) -> bool:
        if began < self.generation:
            return False
        self._succeeded_at = now
        if self.state is BreakerState.CLOSED:
            self.window.succeeded(now)
            return False
        # Only probes are of this generation.
        self.permit = ""
        self._successes += 1
        if self._successes < self._policy.successes_to_close:
            return False
        self._change(BreakerState.CLOSED, now)
        return True

    def failed(self, began: int, now: float, *, unit: float, token: str = "", under_way: int = 0) -> bool:
        """`under_way`: calls that go on meanwhile and may yet succeed."""
        if began < self.generation:
            return False
        if self.state is BreakerState.CLOSED:
            self.window.failed(now)
            if not self._too_many(under_way):
                return False
            if now - self._changed_at >= self._policy.quiet_s:
                self.openings = 0
        elif not token or token != self.permit or now >= self._permit_until:
            return False
        self.openings += 1
        self._change(BreakerState.OPEN, now)
        self._until = now + open_time_s(self.openings, self._policy, unit)
        return True

    def telling_row(self) -> int:
        """How many failures in a row open the circuit now, here or in the whole fleet."""
        return telling_row(*self.window.before_row(), self._policy)

    def since_success_s(self, now: float) -> float:
        """Seconds since a call succeeded; infinite before the first."""
        return now - self._succeeded_at

    def outweighs(self, under_way: int) -> bool:
        """Whether the present row is large enough beside the calls that are under way."""
        row = self.window.streak
        return row >= self._policy.failure_rate * (row + under_way)

    def _too_many(self, under_way: int) -> bool:
        row = self.window.streak
        # The rule for rows is asked only once there is one.
        if row >= self._policy.failures and self.outweighs(under_way) and row >= self.telling_row():
            return True
        calls, failures = self.window.totals()
        return calls >= self._policy.min_calls and failures >= self._policy.failure_rate * (calls + under_way)

    def gave_up(self, token: str) -> None:
        """The call with this permit ended without a verdict: the next one may probe."""
        if token and token == self.permit:
            self.permit = ""

    # -- the fleet's word -------------------------------------------------------------------------------------------

    def adopt(
        self, state: BreakerState, now: float, *, openings: int = 0, wait_s: float = 0.0, age_s: float = 0.0
    ) -> bool:
        """Take over what the fleet agreed on `age_s` ago: open for `wait_s` more seconds, or closed. Results of calls
        that are under way no longer count."""
        changed = self.state is not state
        self.openings = openings
        self._change(state, now)
        self._changed_at = now - age_s
        self._until = now + wait_s
        return changed

    def _change(self, state: BreakerState, now: float) -> None:
        self.state = state
        self.generation = self._generations.next()
        self._changed_at = now
        self.permit = ""
        self._successes = 0
        self.window.clear()
