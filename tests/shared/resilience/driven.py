"""One breaker with its own clock."""

from __future__ import annotations

from shared.resilience.breaker import Breaker, BreakerPolicy, BreakerState, Generations

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
POLICY = BreakerPolicy()
PROBE = "probe"


class Driven:
    """A breaker with its own clock, asked and told as its shell does."""

    def __init__(self, policy: BreakerPolicy = POLICY) -> None:
        self.generations = Generations()
        self.breaker = Breaker(policy, self.generations)
        self.now = 1000.0

    def fail(self, times: int = 1, *, token: str = "", unit: float = 0.0) -> None:
        for _ in range(times):
            self.breaker.failed(self.generations.current, self.now, unit=unit, token=token)

    def succeed(self, times: int = 1) -> None:
        for _ in range(times):
            self.breaker.succeeded(self.generations.current, self.now)

    def wait(self, seconds: float) -> None:
        self.now += seconds

    @property
    def state(self) -> BreakerState:
        return self.breaker.look(self.now)

    def reach(self, state: BreakerState) -> None:
        if state is not CLOSED:
            self.fail(POLICY.failures)
        if state is HALF_OPEN:
            self.wait(POLICY.open_s)
            assert self.breaker.take_permit(PROBE, self.now)
        assert self.state is state
