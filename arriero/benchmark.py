"""How fast a model answers: one timed call, and the figures of several. Times are seconds. No I/O in here."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

NS_PER_S = 1e9


class BrokenAnswer(Exception):
    """The answer ended in an error, or before its end; the message is the server's where it gave one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One answer. `first_token_s` and `total_s` are the caller's, the rest is what the model server counted.

    `load_s` is small, not 0, when the model was in memory. What nobody counted is 0; `queue_s` is None without a queue.
    """

    first_token_s: float
    total_s: float
    load_s: float = 0.0
    prompt_tokens: int = 0
    prompt_s: float = 0.0
    tokens: int = 0
    eval_s: float = 0.0
    host: str = ""
    queue_s: float | None = None

    @property
    def tokens_per_s(self) -> float | None:
        """As the model server counted; else as the tokens arrived; None for fewer than two."""
        if self.eval_s > 0:
            return self.tokens / self.eval_s
        streamed_s = self.total_s - self.first_token_s
        return (self.tokens - 1) / streamed_s if self.tokens > 1 and streamed_s > 0 else None

    @property
    def prompt_tokens_per_s(self) -> float | None:
        return self.prompt_tokens / self.prompt_s if self.prompt_s > 0 else None


@dataclass(slots=True)
class AnswerTimer:
    """Fed the lines of an Ollama stream as they come, each with the seconds since the request was sent."""

    first_token_s: float | None = None
    _last: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """Who answers; empty before the first line."""
        return str(self._last.get("model", ""))

    def line(self, text: str, since_s: float) -> None:
        """Raises BrokenAnswer for a line that is an error, or none of JSON."""
        try:
            body = json.loads(text)
        except ValueError:
            raise BrokenAnswer(f"not a line of Ollama's API: {text[:200]}") from None
        if "error" in body:
            raise BrokenAnswer(str(body["error"]))
        message = body.get("message") or {}
        if self.first_token_s is None and (message.get("content") or message.get("thinking")):
            self.first_token_s = since_s
        self._last = body

    def sample(self, total_s: float) -> Sample:
        """The answer that has ended, so long after the request was sent.

        Raises BrokenAnswer when its last line has not come, or no text before it.
        """
        if not self._last.get("done"):
            raise BrokenAnswer("the answer broke off")
        if self.first_token_s is None:
            raise BrokenAnswer("the model said nothing")
        count, duration_s = self._last.get, self._duration_s
        return Sample(
            first_token_s=self.first_token_s,
            total_s=total_s,
            load_s=duration_s("load_duration"),
            prompt_tokens=count("prompt_eval_count", 0),
            prompt_s=duration_s("prompt_eval_duration"),
            tokens=count("eval_count", 0),
            eval_s=duration_s("eval_duration"),
        )

    def _duration_s(self, name: str) -> float:
        return float(self._last.get(name, 0)) / NS_PER_S


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and most of some values."""

    median: float
    least: float
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One model on one host. `load_s`: of its first call here; the first token: of the calls after it."""

    model: str
    host: str
    calls: int
    tokens: int
    load_s: float
    first_token_s: Spread | None
    tokens_per_s: Spread | None
    prompt_tokens_per_s: Spread | None
    queue_s: Spread | None


def figures(model: str, samples: Sequence[Sample]) -> list[Figures]:
    """One entry for each host, in the order in which they answered first.

    A host's first call may have loaded the model, so how long it took to the first token is left out.
    """
    by_host: dict[str, list[Sample]] = {}
    for sample in samples:
        by_host.setdefault(sample.host, []).append(sample)
    return [
        Figures(
            model=model,
            host=host,
            calls=len(calls),
            tokens=sum(call.tokens for call in calls),
            load_s=calls[0].load_s,
            first_token_s=_spread(call.first_token_s for call in calls[1:]),
            tokens_per_s=_spread(call.tokens_per_s for call in calls),
            prompt_tokens_per_s=_spread(call.prompt_tokens_per_s for call in calls),
            queue_s=_spread(call.queue_s for call in calls),
        )
        for host, calls in by_host.items()
    ]


def _spread(values: Iterable[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread(statistics.median(known), min(known), max(known)) if known else None
