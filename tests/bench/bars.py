"""What a figure is held to, and how it is judged. The figures themselves are in `rows.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tests.bench.titles import TITLES


@dataclass(slots=True, frozen=True, kw_only=True)
class Limit:
    """`factor` times the same figure of peer `of`, or `factor` itself."""

    factor: float
    of: str = ""


@dataclass(slots=True, frozen=True, kw_only=True)
class Figure:
    """One line of the report: a figure of one scenario, and what it must and should reach.

    Of several limits in `must` each has to hold; with `either` one is enough.
    """

    row: str
    label: str
    scenario: str
    key: str
    unit: str
    better: Literal["higher", "lower"]
    must: tuple[Limit, ...] = ()
    aim: tuple[Limit, ...] = ()
    either: bool = False
    subject: str = "arriero"
    paired: bool = False
    """The subject and its one peer were measured side by side: they are compared within each run."""


Verdict = Literal["holds", "missed", "no figure"]


def bound(limit: Limit, medians: Mapping[str, float]) -> float | None:
    """The value a limit asks for, given what the peers are compared by; None without that peer."""
    if not limit.of:
        return limit.factor
    peer = medians.get(limit.of)
    return None if peer is None else limit.factor * peer


def judge(figure: Figure, limits: tuple[Limit, ...], medians: Mapping[str, float]) -> Verdict:
    """Whether the subject keeps the limits, given the medians, or what stands for them (`Results.compared`).

    A limit whose peer was not measured decides nothing on its own.
    """
    own = medians.get(figure.subject)
    bounds = [value for limit in limits if (value := bound(limit, medians)) is not None]
    if own is None or not bounds:
        return "no figure"
    kept = [own >= value if figure.better == "higher" else own <= value for value in bounds]
    if figure.either:
        return "holds" if any(kept) else "missed" if len(kept) == len(limits) else "no figure"
    if not all(kept):
        return "missed"
    return "holds" if len(kept) == len(limits) else "no figure"


def limit_text(figure: Figure, limits: tuple[Limit, ...]) -> str:
    """A bar in words, e.g. `>= 5 x BullMQ`."""
    sign = ">=" if figure.better == "higher" else "<="
    texts = [
        f"{sign} {limit.factor:g} x {TITLES[limit.of]}" if limit.of else f"{sign} {limit.factor:,.4g}"
        for limit in limits
    ]
    return (" or " if figure.either else " and ").join(texts)
