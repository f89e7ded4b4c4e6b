"""The circuits in one worker's memory: what it saw itself, what the fleet last said, what the fleet has yet to hear."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import structlog

from shared.resilience.breaker import Breaker, BreakerPolicy, BreakerState, Generations
from shared.resilience.circuit_fleet import Conclusion
from shared.resilience.circuits import CircuitRow, CircuitView

log = structlog.get_logger()

PROBE_RETRY_S = 1.0
"""When to ask again while somebody else probes."""
SAME_ANSWER_S = 0.25
"""For so long Redis is not asked again after it said that somebody else probes."""
MAX_CIRCUITS = 2048
"""Circuits kept in memory. Callers choose model names, so there may be any number of them."""

OnChange = Callable[[str, BreakerState], None]


class Circuit:
    """One circuit of this worker."""

    __slots__ = ("ask_from", "breaker", "name", "reason", "row", "telling", "unsent", "untold", "untold_since")

    def __init__(self, name: str, breaker: Breaker) -> None:
        self.name = name
        self.breaker = breaker
        self.row: CircuitRow | None = None
        self.reason = ""
        self.unsent: Conclusion | None = None
        """A change of state that the fleet has yet to hear of."""
        self.untold = 0
        """Failures in a row that the fleet has yet to count."""
        self.untold_since = 0.0
        """When the first of them was."""
        self.telling = False
        """They are about to be told."""
        self.ask_from = float("-inf")
        """Until then Redis would only say again that somebody else probes."""

    @property
    def known(self) -> int:
        """The fleet's generation of this circuit as known here; 0: none."""
        return 0 if self.row is None else self.row.generation


class CircuitBook:
    """All circuits of one worker, by name. Those in trouble (open or half-open) are also kept apart, so that asking
    costs nothing while there are none. `on_change` hears of every change of state."""

    def __init__(
        self, policy: BreakerPolicy, *, worker_id: str, clock: Callable[[], float], on_change: OnChange | None
    ) -> None:
        self.generations = Generations()
        self.troubled: set[str] = set()
        self._policy = policy
        self._worker_id = worker_id
        self._clock = clock
        self._on_change = on_change
        self._circuits: dict[str, Circuit] = {}

    def __getitem__(self, name: str) -> Circuit:
        return self._circuits[name]

    def all(self) -> Iterable[Circuit]:
        return self._circuits.values()

    def get(self, name: str) -> Circuit | None:
        return self._circuits.get(name)

    def add(self, name: str) -> Circuit:
        """A new, closed circuit. An old one that is closed makes room if there are too many."""
        if len(self._circuits) >= MAX_CIRCUITS:
            oldest = next((known for known in self._circuits if known not in self.troubled), None)
            if oldest is not None:
                del self._circuits[oldest]
        circuit = self._circuits[name] = Circuit(name, Breaker(self._policy, self.generations))
        return circuit

    def standing(self, names: Sequence[str]) -> tuple[float, list[str]]:
        """Seconds to wait, by what is known here, and which circuits need a permit."""
        now = self._clock()
        wait_s, half_open = 0.0, []
        for name in names:
            if name not in self.troubled:
                continue
            circuit = self._circuits[name]
            state = self.look(circuit, now)
            wanted_s = circuit.breaker.wait_s(now)
            if state is BreakerState.HALF_OPEN:
                half_open.append(name)
                wanted_s = max(min(PROBE_RETRY_S, wanted_s), circuit.ask_from - now)
            wait_s = max(wait_s, wanted_s)
        return wait_s, half_open

    def others_probe(self, names: Sequence[str]) -> None:
        """Redis said so just now."""
        for name in names:
            self._circuits[name].ask_from = self._clock() + SAME_ANSWER_S

    def look(self, circuit: Circuit, now: float) -> BreakerState:
        """Its state at `now`."""
        before = circuit.breaker.state
        after = circuit.breaker.look(now)
        if after is not before:
            self.note(circuit)
        return after

    def note(self, circuit: Circuit) -> None:
        """The circuit has changed its state."""
        state, name = circuit.breaker.state, circuit.name
        circuit.untold = 0
        if state is BreakerState.CLOSED:
            self.troubled.discard(name)
            log.info("circuit.closed", circuit=name)
        else:
            self.troubled.add(name)
            wait_s = round(circuit.breaker.wait_s(self._clock()), 1)
            log.warning(f"circuit.{state}", circuit=name, reason=circuit.reason, retry_in_s=wait_s)
        if self._on_change:
            self._on_change(name, state)

    def adopt(self, row: CircuitRow) -> None:
        """Take over what the fleet says, unless that is known already."""
        if not row.state:
            return
        circuit = self._circuits.get(row.name) or self.add(row.name)
        if row.generation <= circuit.known:
            return
        circuit.row, circuit.reason, circuit.unsent, circuit.ask_from = row, row.reason, None, float("-inf")
        circuit.untold = 0
        state = BreakerState(row.state)  # never half-open: that is what an open one becomes by itself
        if circuit.breaker.adopt(state, self._clock(), openings=row.openings, wait_s=row.wait_s, age_s=row.age_s):
            self.note(circuit)

    def forget_rows_but(self, names: set[str]) -> None:
        """Redis knows only these: the others lapsed, or it was emptied. This worker still knows what it knows."""
        for circuit in self._circuits.values():
            if circuit.row is not None and circuit.name not in names:
                circuit.row = None

    def reset(self) -> list[str]:
        """Close all and forget what was counted: an operator's order. Names of those that had failures in a row."""
        failing = [name for name, circuit in self._circuits.items() if circuit.breaker.window.streak]
        for circuit in self._circuits.values():
            circuit.unsent, circuit.untold = None, 0
            if circuit.breaker.adopt(BreakerState.CLOSED, self._clock()):
                self.note(circuit)
        return failing

    def views(self) -> list[CircuitView]:
        """Every circuit in use here, by name."""
        now, views = self._clock(), []
        for name, circuit in sorted(self._circuits.items()):
            state = self.look(circuit, now)
            row = None if circuit.unsent else circuit.row
            views.append(
                CircuitView(
                    name=name,
                    state=state,
                    retry_in_s=circuit.breaker.wait_s(now) if state is BreakerState.OPEN else 0.0,
                    openings=circuit.breaker.openings,
                    reason="" if state is BreakerState.CLOSED else circuit.reason,
                    changed_by=row.worker if row else self._worker_id if circuit.unsent else "",
                    changed_at=row.changed_at if row else 0.0,
                    forced=row.forced if row else False,
                )
            )
        return views
