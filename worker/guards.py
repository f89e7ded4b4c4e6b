"""What stands between a job and a backend: circuit breakers, and the budget of retries that the workers share.

A thin face over `shared.resilience`, so that the execution speaks of routes and errors.
"""

from __future__ import annotations

from shared.model_names import same
from shared.resilience.breaker_store import Admission, Breakers
from shared.resilience.budget import RetryBudget
from shared.resilience.circuits import host_circuit, model_circuit
from shared.resilience.judgement import NO_VERDICT, AskLoaded
from worker.fallback import Route


class Guards:
    """Asked before a call, told after it."""

    def __init__(self, breakers: Breakers, budget: RetryBudget) -> None:
        self._breakers = breakers
        self._budget = budget

    async def start(self) -> None:
        """Keep up with the other workers. Redis may be away."""
        await self._breakers.start()
        await self._budget.start()

    async def stop(self) -> None:
        await self._breakers.stop()
        await self._budget.stop()

    async def admit(self, kind: str, route: Route) -> Admission:
        """Whether a call may go out; asked before any model is loaded for it. An allowed one ends with `ended`."""
        model = same(route.model)
        return await self._breakers.admit((host_circuit(route.host), model_circuit(kind, model, route.host)))

    def withdraw(self, admission: Admission) -> None:
        """An admitted call does not go out after all."""
        self._breakers.record(admission, NO_VERDICT)

    async def may_retry(self, route: Route) -> bool:
        """Take a retry for this host and model from the shared budget."""
        return await self._budget.take(_bucket(route))

    def ended(
        self,
        admission: Admission,
        route: Route,
        error: BaseException | None,
        *,
        ask: AskLoaded | None,
        full_wait: bool,
        under_way: int,
    ) -> None:
        """An admitted call is over; `error` is what it raised, `ask` tells what the host has in memory after a
        timeout, `under_way` how many calls of this worker go on along the same route.

        `full_wait` is False for a call that had less time than its model is usually given: its timeout proves little.
        """
        if error is None:
            self._budget.succeeded(_bucket(route))
        self._breakers.conclude(admission, error, ask=ask, full_wait=full_wait, under_way=under_way)


def _bucket(route: Route) -> str:
    return f"{same(route.model)}@{route.host}"
