"""How the figures of one model on one host lie in its Redis hash. Pure.

| field                | counts                                                             |
|----------------------|--------------------------------------------------------------------|
| `<kind>|n`           | calls that ended                                                   |
| `<kind>|f|<code>`    | failures with that error code                                      |
| `<kind>|us`          | their time together, microseconds                                  |
| `<kind>|l|<bound>`   | calls that took up to `bound` seconds (and more than the one below) |
| `<kind>|tus`         | time to the first token together, microseconds                     |
| `<kind>|t|<bound>`   | first tokens that took up to `bound` seconds                       |
| `<kind>|in`, `|out`  | tokens read, tokens written                                        |
| `<kind>|ch`          | characters of the prompts that were read as those tokens           |
| `loads`, `load_us`   | loads that calls waited for, and that time, microseconds           |

Whole numbers only: they add up exactly, in any order. A bucket is named by its bound, so that another release's
buckets are merged into the next wider one here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from shared.telemetry.metrics import LATENCY_BUCKETS_S
from shared.usage.figures import BUCKETS, Histogram, ModelUsage, OperationUsage, bucket_of

_BOUNDS = [*map(str, LATENCY_BUCKETS_S), "inf"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a model that ended. `error` is the code it failed with; empty: it answered. Times in seconds."""

    kind: str
    seconds: float
    error: str = ""
    first_token_s: float | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    chars_in: int = 0
    load_s: float = 0.0


def add(row: dict[str, int], call: Call) -> None:
    """Count a call into the fields of its model and host."""

    def count(name: str, by: int) -> None:
        if by:
            row[name] = row.get(name, 0) + by

    kind = call.kind
    count(f"{kind}|n", 1)
    count(f"{kind}|us", round(call.seconds * 1e6))
    count(f"{kind}|l|{_BOUNDS[bucket_of(call.seconds)]}", 1)
    if call.error:
        count(f"{kind}|f|{call.error}", 1)
    if call.first_token_s is not None:
        count(f"{kind}|tus", round(call.first_token_s * 1e6))
        count(f"{kind}|t|{_BOUNDS[bucket_of(call.first_token_s)]}", 1)
    count(f"{kind}|in", call.tokens_in)
    count(f"{kind}|out", call.tokens_out)
    count(f"{kind}|ch", call.chars_in)
    if call.load_s > 0:
        count("loads", 1)
        count("load_us", round(call.load_s * 1e6))


def place_of(model: str, host: str) -> str:
    """The name of a model on a host, in keys and in the index."""
    return f"{model}@{host}"


def parse(place: str, row: Mapping[bytes, bytes], last_used_at: float) -> ModelUsage:
    """A hash as `HGETALL` gives it. Fields of a later release are left out."""
    model, _, host = place.rpartition("@")
    plain = {name.decode(): int(value) for name, value in row.items()}
    kinds: dict[str, dict[str, int]] = defaultdict(dict)
    for name, value in plain.items():
        kind, bar, rest = name.partition("|")
        if bar:
            kinds[kind][rest] = value
    return ModelUsage(
        model=model,
        host=host,
        operations={kind: _operation(fields) for kind, fields in sorted(kinds.items())},
        loads=plain.get("loads", 0),
        load_seconds=plain.get("load_us", 0) / 1e6,
        last_used_at=last_used_at,
    )


def _operation(fields: Mapping[str, int]) -> OperationUsage:
    return OperationUsage(
        calls=fields.get("n", 0),
        failures={name[2:]: value for name, value in fields.items() if name.startswith("f|")},
        latency=_histogram(fields, "l|", fields.get("us", 0)),
        first_token=_histogram(fields, "t|", fields.get("tus", 0)),
        tokens_in=fields.get("in", 0),
        tokens_out=fields.get("out", 0),
        chars_in=fields.get("ch", 0),
    )


def _histogram(fields: Mapping[str, int], prefix: str, total_us: int) -> Histogram:
    counts = [0] * BUCKETS
    for name, value in fields.items():
        if name.startswith(prefix):
            counts[bucket_of(float(name.removeprefix(prefix)))] += value
    return Histogram(tuple(counts), total_us / 1e6)
