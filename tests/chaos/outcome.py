"""What a scenario says at its end: one line a figure, each beside its bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.chaos.checker import Report


@dataclass(slots=True, frozen=True)
class Line:
    """One figure. `n` says how many faults or jobs it rests on; `held` is None where there is no bound."""

    what: str
    n: int
    figure: str
    bound: str
    held: bool | None

    @property
    def verdict(self) -> str:
        return {True: "held", False: "missed", None: "-"}[self.held]


@dataclass(slots=True)
class Outcome:
    """All figures of one scenario, and what the checker found."""

    scenario: str
    title: str
    lines: list[Line] = field(default_factory=list)
    breaches: list[str] = field(default_factory=list)

    @property
    def held(self) -> bool:
        return not self.breaches and all(line.held is not False for line in self.lines)

    def add(self, what: str, n: int, figure: object, bound: str, held: bool) -> None:
        self.lines.append(Line(what, n, str(figure), bound, held))

    def none(self, what: str, n: int, count: int) -> None:
        """A count that must be 0."""
        self.add(what, n, count, "0", count == 0)

    def some(self, what: str, n: int, count: int) -> None:
        """A count that must not be 0, or the scenario showed nothing."""
        self.add(what, n, count, ">= 1", count >= 1)

    def within(self, what: str, n: int, seconds: float, limit_s: float) -> None:
        """A time and its limit."""
        self.add(what, n, f"{seconds:.2f} s", f"<= {limit_s:g} s", seconds <= limit_s)

    def tell(self, what: str, n: int, figure: object) -> None:
        """A figure without a bound."""
        self.lines.append(Line(what, n, str(figure), "-", None))

    def add_report(self, report: Report) -> None:
        """The invariants in two lines; breaches keep their details."""
        self.breaches += report.breaches
        self.none("accepted jobs lost", report.accepted, report.lost)
        self.none("invariants broken", len(report.records), len(report.breaches))

    def failures(self) -> list[str]:
        """What did not hold, for a test's message."""
        missed = [f"{line.what}: {line.figure}, bound {line.bound}" for line in self.lines if line.held is False]
        return missed + self.breaches


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed; 0 without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
