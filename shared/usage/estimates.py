"""What a job is expected to take, from what calls took of late. Pure.

A model's calls on a host are summed up in a `Tally`; older calls fade as newer ones come. What is not known of a model
on a host is taken from the model on all hosts, then from all models, then from `TYPICAL`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from shared.model_names import same
from shared.queue.lines import EMBEDDINGS, TEXTS, line_named, unit_in
from shared.usage.figures import UNUSED, ModelUsage, OperationUsage
from shared.usage.sizes import Size

HALF_LIFE_S = 600.0
"""After so long what was learned counts half, so that a host that was slow once is tried again."""
MOST_CALLS = 100.0
"""Calls that an average goes back over, however many there were."""
MOST_KEPT = 1000
"""Lines whose tallies are kept at hand."""
LEAST_COST, MOST_COST = 0.1, 20.0
LEAST_WEIGHT, MOST_WEIGHT = 0.2, 5.0
FIRM_CALLS = 3.0
"""From about so many calls on a host speaks for itself; with fewer it is taken to be as fast as the others."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Tally:
    """Calls and what they took together. Times in seconds, without loads; `first_s` of them went by before the first
    tokens. A failed call counts with its time, since it takes its place as well.
    """

    calls: float = 0.0
    answers: float = 0.0
    seconds: float = 0.0
    first_s: float = 0.0
    chars_in: float = 0.0
    tokens_out: float = 0.0
    loads: float = 0.0
    load_s: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            calls=self.calls + other.calls, answers=self.answers + other.answers, seconds=self.seconds + other.seconds,
            first_s=self.first_s + other.first_s, chars_in=self.chars_in + other.chars_in,
            tokens_out=self.tokens_out + other.tokens_out, loads=self.loads + other.loads,
            load_s=self.load_s + other.load_s,
        )  # fmt: skip

    def __mul__(self, share: float) -> Tally:
        return Tally(
            calls=self.calls * share, answers=self.answers * share, seconds=self.seconds * share,
            first_s=self.first_s * share, chars_in=self.chars_in * share, tokens_out=self.tokens_out * share,
            loads=self.loads * share, load_s=self.load_s * share,
        )  # fmt: skip

    @property
    def mean_s(self) -> float:
        """Seconds of a call. Of an empty tally there is none: ZeroDivisionError."""
        return self.seconds / self.calls

    def seconds_of(self, size: Size) -> float:
        """Seconds that a call of this size would take, its answer as long as the others unless it wants less."""
        tokens = self.tokens_out / self.answers if self.answers else 0.0
        if size.most_tokens is not None:
            tokens = min(tokens, size.most_tokens)
        return self.seconds_for(size.chars, tokens)

    def seconds_for(self, chars: float, tokens: float) -> float:
        """Seconds for a prompt and an answer of so many characters and tokens, each at the rate of these calls."""
        if not self.chars_in:
            return self.mean_s
        if not self.tokens_out:
            return self.seconds * chars / self.chars_in
        return self.first_s * chars / self.chars_in + (self.seconds - self.first_s) * tokens / self.tokens_out


NONE = Tally()
TYPICAL = {
    TEXTS: Tally(calls=1, answers=1, seconds=6.0, first_s=1.0, chars_in=2000, tokens_out=200, loads=1, load_s=5.0),
    EMBEDDINGS: Tally(calls=1, answers=1, seconds=0.1, chars_in=1000, loads=1, load_s=2.0),
}
"""One call each on a middling machine: where to begin while nothing is known."""

Place = tuple[str, str]
"""A line without its context length, `t:llama3.2`, and a host."""
_KINDS = {TEXTS: ("chat", "completion"), EMBEDDINGS: ("embedding",)}


class Estimates:
    """What calls take, by line and host. Asked for each request, so every answer is a look-up and some sums."""

    def __init__(self, places: Mapping[Place, Tally] | None = None) -> None:
        self._places = places or {}
        self._lines: dict[str, Tally] = {}
        means = dict.fromkeys(TYPICAL, NONE)
        for (line, _), tally in self._places.items():
            self._lines[line] = self._lines.get(line, NONE) + tally
            means[line[: len(TEXTS)]] += tally
        everything = sum(means.values(), NONE)
        self._means = {manner: mean if mean.calls else TYPICAL[manner] for manner, mean in means.items()}
        self._mean_s = everything.mean_s if everything.seconds else TYPICAL[TEXTS].mean_s
        self._load_s = everything.load_s / everything.loads if everything.loads else 0.0
        self._weights: dict[str, dict[str, float]] = {}
        # Callers may ask for any name.
        self._tally = lru_cache(maxsize=MOST_KEPT)(self._find_tally)
        self._asked_for = lru_cache(maxsize=MOST_KEPT)(self._find_asked_for)
        self.known = everything.calls > 0
        """Whether any call was ever counted."""

    def _find_tally(self, line: str) -> Tally:
        known = self._lines.get(_plain(line))
        return known if known is not None and known.calls else self._means[line[: len(TEXTS)]]

    def _find_asked_for(self, kind: str, model: str) -> Tally:
        return self._tally(line_named(kind, same(model)))

    def cost(self, kind: str, model: str, size: Size) -> float:
        """A job's work, 1 that of the fleet's mean call: 0.1 to 20, so that no estimate bars or favours a tenant."""
        seconds = self._asked_for(kind, model).seconds_of(size)
        return min(MOST_COST, max(LEAST_COST, seconds / self._mean_s))

    def call_s(self, line: str) -> float:
        """Seconds of a call that serves a line, its model in memory."""
        return self._tally(line).mean_s if line else self._mean_s

    def load_s(self, line: str) -> float:
        """Seconds that loading the line's model takes."""
        known = self._lines.get(_plain(line), NONE)
        if known.loads:
            return known.load_s / known.loads
        return self._load_s or TYPICAL[line[: len(TEXTS)]].load_s

    def weights(self, host: str) -> Mapping[str, float]:
        """The time that a usual call of each model takes on a host, 1 its mean over all hosts: 0.2 to 5."""
        known = self._weights.get(host)
        if known is None:
            known = self._weights[host] = self._weigh(host)
        return known

    def _weigh(self, host: str) -> dict[str, float]:
        found: dict[str, float] = {}
        # Texts after embeddings: of a model that is used for both, their speed counts.
        for (line, at), tally in sorted(self._places.items()):
            mean = self._lines[line]
            if at != host or not mean.seconds:
                continue
            # The same work for all: hosts may have had longer and shorter jobs.
            chars, tokens = mean.chars_in / mean.calls, mean.tokens_out / mean.calls
            mixed = tally + mean * (FIRM_CALLS / mean.calls)
            weight = mixed.seconds_for(chars, tokens) / (mean.seconds_for(chars, tokens) or 1.0)
            found[unit_in(line)] = min(MOST_WEIGHT, max(LEAST_WEIGHT, weight))
        return found


class Learner:
    """Takes readings of the figures, which are totals, and keeps what is recent of them."""

    def __init__(self) -> None:
        self._before: dict[tuple[str, str], ModelUsage] = {}
        self._places: dict[Place, Tally] = {}
        self._learned_at = 0.0

    def learn(self, reading: Iterable[ModelUsage], now: float) -> Estimates:
        """The estimates after one more reading at `now`, seconds by any steady clock. A reading may leave out what was
        not used since the one before."""
        fading = 0.5 ** ((now - self._learned_at) / HALF_LIFE_S) if self._before else 1.0
        self._learned_at = now
        self._places = {place: tally * fading for place, tally in self._places.items()}
        for usage in reading:
            known = self._before.get((usage.model, usage.host))
            self._before[usage.model, usage.host] = usage
            for manner, tally in tallies(usage.since(known) if known else usage):
                place = (manner + usage.model, usage.host)
                whole = self._places.get(place, NONE) + tally
                self._places[place] = whole * min(1.0, MOST_CALLS / whole.calls)
        return Estimates(self._places)


def tallies(usage: ModelUsage) -> Iterable[tuple[str, Tally]]:
    """The calls of a model on a host by manner of use, those that there are. Loads are parted by the time of each."""
    total_s = usage.total.seconds_total
    for manner, kinds in _KINDS.items():
        calls = sum((usage.operations.get(kind, UNUSED) for kind in kinds), UNUSED)
        if calls.calls:
            yield manner, _tally(calls, usage, calls.seconds_total / total_s if total_s else 0.0)


def _tally(calls: OperationUsage, usage: ModelUsage, part: float) -> Tally:
    load_s = min(usage.load_seconds * part, calls.seconds_total)
    seconds = calls.seconds_total - load_s
    return Tally(
        calls=calls.calls,
        answers=calls.calls - calls.failed,
        seconds=seconds,
        first_s=min(seconds, max(0.0, calls.first_token.total_s - load_s)),
        chars_in=calls.chars_in,
        tokens_out=calls.tokens_out,
        loads=usage.loads * part,
        load_s=load_s,
    )


def _plain(line: str) -> str:
    """A line's name without the context length: figures are kept by model."""
    return line.partition("#")[0]
