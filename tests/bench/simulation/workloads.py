"""Who asks for what: arrivals at random, and which shard they go to."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, count

from shared.jobs import Priority
from tests.bench.simulation.hosts import Job

CLASSES = {Priority.HIGH: 1, Priority.NORMAL: 7, Priority.LOW: 2}
"""Shares in tenths, as in tests/bench/arrivals.py."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Workload:
    """`rates`: jobs a second of each model. Calls take `job_s` each, or (`varies`) on average, exponentially."""

    rates: Mapping[str, float]
    job_s: float
    varies: bool = False
    tenants: int = 1

    def arrivals(self, seed: int, *, jobs: int = 0, until_s: float = math.inf) -> Iterator[Job]:
        """Poisson arrivals: so many jobs, or all until a time."""
        dice, now = random.Random(seed), 0.0
        models, model_weights = list(self.rates), list(accumulate(self.rates.values()))
        classes, class_weights = list(CLASSES), list(accumulate(CLASSES.values()))
        per_second = model_weights[-1]
        for _ in range(jobs) if jobs else count():
            now += dice.expovariate(per_second)
            if now > until_s:
                return
            yield Job(
                unit=dice.choices(models, cum_weights=model_weights)[0],
                priority=dice.choices(classes, cum_weights=class_weights)[0],
                tenant=f"tenant-{dice.randrange(self.tenants)}",
                arrives_s=now,
                takes_s=dice.expovariate(1 / self.job_s) if self.varies else self.job_s,
            )


def zipf(models: int, per_second: float) -> dict[str, float]:
    """Rates: the n-th model is asked for 1/n as often as the first."""
    weights = {f"model-{number}": 1 / number for number in range(1, models + 1)}
    total = sum(weights.values())
    return {model: per_second * weight / total for model, weight in weights.items()}


def by_tenant(rates: Mapping[str, float], shards: int) -> list[dict[str, float]]:
    """Every shard sees all models."""
    return [{model: rate / shards for model, rate in rates.items()}] * shards


def by_model(rates: Mapping[str, float], shards: int) -> list[dict[str, float]]:
    """Every shard gets the same rate and as few models as can be: the most wanted are spread over several shards."""
    room = sum(rates.values()) / shards
    found: list[dict[str, float]] = [{}]
    left = room
    for model, rate in sorted(rates.items(), key=lambda item: -item[1]):
        while rate > 0:
            part = min(rate, left)
            found[-1][model] = part
            rate, left = rate - part, left - part
            if left <= room * 1e-9 and len(found) < shards:
                found.append({})
                left = room
            elif left <= 0:
                break  # what rounding leaves over
    return found


def warm_start(rates: Mapping[str, float], hosts: int, room: int) -> list[list[str]]:
    """Models in each host's memory at the start: places by popularity (D'Hondt), none twice on a host."""
    places: list[list[str]] = [[] for _ in range(hosts)]
    seats = dict.fromkeys(rates, 0)
    for turn in range(hosts * room):
        at = places[turn % hosts]
        able = [model for model in rates if model not in at and seats[model] < hosts]
        if not able:
            break
        model = max(able, key=lambda m: rates[m] / (seats[m] + 1))
        seats[model] += 1
        at.append(model)
    return places


def waits_s(jobs: Sequence[Job], priority: Priority, now: float, *, until_served: bool) -> list[float]:
    """How long the jobs of a class waited, those that still do until now. Sorted."""
    found = []
    for job in jobs:
        if job.priority is priority:
            begun = job.served_s if until_served else job.started_s
            found.append((begun if begun >= 0 else now) - job.arrives_s)
    return sorted(found)
