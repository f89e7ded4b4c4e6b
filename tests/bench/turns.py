"""Sides that take turns in short slices, so that what else the machine does falls on all of them alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

Side = TypeVar("Side")


@dataclass(slots=True, frozen=True, kw_only=True)
class Slice:
    """What one side did in one of its slices."""

    count: float
    """Jobs, chats or what else is counted."""
    took_s: float


def rate(slices: Iterable[Slice]) -> float:
    """All that was done over all the time it took, 1/s.

    Not the median slice: a stall that comes in one slice of four, as when the append-only file is rewritten, is part of
    what the side costs. What else the machine does is left to the median of the runs.
    """
    done = list(slices)
    return sum(each.count for each in done) / sum(each.took_s for each in done)


def in_turns(
    sides: Mapping[str, Side], rounds: int, steps: Mapping[str, Callable[[Side], Slice]]
) -> dict[str, dict[str, float]]:
    """Each side's rate of each step, over its slices of all rounds, 1/s.

    A step is taken by all sides before the next one begins, and every other round the last side goes first (A B, B A),
    so that a machine that grows slower or faster favours nobody.
    """
    slices: dict[tuple[str, str], list[Slice]] = defaultdict(list)
    for number in range(rounds):
        names = list(sides)[:: -1 if number % 2 else 1]
        for key, step in steps.items():
            for name in names:
                slices[name, key].append(step(sides[name]))
    return {name: {key: rate(slices[name, key]) for key in steps} for name in sides}
