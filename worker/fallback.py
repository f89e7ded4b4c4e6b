"""What to try next when a call failed: which host, which model, with which parameters. Pure.

The order, within one deadline and one budget of tries for all of it:
  1. the model asked for, on the host where it has failed least; among equals the least busy
  2. the next model of its itinerary (`worker.itinerary`); a stand-in is simplified: smaller context and output, no
     tools unless it has them, less time
  3. a cached answer (see `shared.resilience.answer_cache`)
Embeddings stay with their model: vectors of two models do not mix. So do raw prompts, written for its template, and
orders to load it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec import structs

from shared.backends.base import CallTimeouts
from shared.errors import ArrieroError, BackendMisconfigured, BackendRejected
from shared.model_names import same
from shared.resilience.backoff import RetryPolicy, retry_delay_s
from shared.wire.canonical import ChatRequest, CompletionRequest, EmbeddingRequest, Request, Sampling

MAX_MODELS = 3
"""In one chain, the model asked for included."""
FIRST_BYTE_SHARE = 0.6
"""Of the time left, the most that waiting for a first byte may take while there is somewhere else to go."""
BYTES_PER_TOKEN = 3
"""Low on purpose: a context guessed too large costs memory, one too small cuts the prompt."""
CONTEXT_STEP = 1024


class Route(NamedTuple):
    """Where a call goes. `host` is the backend's name."""

    host: str
    model: str


@dataclass(slots=True, frozen=True)
class Leg:
    """One model of an itinerary, with the hosts that may have it in order of preference."""

    model: str
    hosts: Sequence[str]

    def has(self, route: Route) -> bool:
        return route.model == self.model and route.host in self.hosts


@dataclass(slots=True, frozen=True, kw_only=True)
class FallbackPolicy:
    """`models` is every model's chain, unless `chains` has one of its own. Times in seconds, lengths in tokens."""

    enabled: bool = True
    models: Sequence[str] = ()
    chains: Mapping[str, Sequence[str]] = field(default_factory=dict)
    context_tokens: int = 4096
    output_tokens: int = 1024
    timeout_s: float = 60.0


def chain(request: Request, policy: FallbackPolicy, asked: str = "") -> list[str]:
    """The models that may answer, the one asked for first, none twice, at most `MAX_MODELS`.

    `asked`: its name without a service, where the request's own has one.
    """
    asked = asked or request.model
    if not policy.enabled or is_for_one_model(request):
        return [asked]
    own = next((models for name, models in policy.chains.items() if same(name) == same(asked)), None)
    wanted = {same(model): model for model in (policy.models if own is None else own)}
    wanted.pop(same(asked), None)
    return [asked, *wanted.values()][:MAX_MODELS]


def is_for_one_model(request: Request) -> bool:
    """Whether no other model can stand in."""
    match request:
        case ChatRequest():
            return not request.messages
        case CompletionRequest():
            return request.raw or not (request.prompt or request.suffix)
        case EmbeddingRequest():
            return True


def turn(models: int, failures: int, tries: int) -> int:
    """Which model of a chain has its turn after so many failures. The last tries, at most half, are the fallbacks'."""
    kept = min(models - 1, tries // 2)
    return min(models - 1, max(0, failures - (tries - kept) + 1))


def routes(legs: Sequence[Leg], failed: Sequence[Route], *, tries: int, doubted: Collection[str] = ()) -> list[Route]:
    """Every place that may serve the job now, best first, each once.

    Models before the one whose turn it is come last: they are for when no later one can be asked at all. Of the later
    ones, those come first that have a host which was not lost a moment ago (`doubted`): a stand-in is of no use where
    nobody answers.
    """
    if not failed:  # most jobs: the first model has its turn, and no host has failed
        return [Route(host, leg.model) for leg in legs for host in leg.hosts]
    first = turn(len(legs), len(failed), tries)
    later = sorted(legs[first:], key=lambda leg: first > 0 and all(host in doubted for host in leg.hosts))
    return [
        Route(host, leg.model) for leg in (*later, *legs[:first]) for host in _by_failures(leg.hosts, leg.model, failed)
    ]


def _by_failures(hosts: Sequence[str], model: str, failed: Sequence[Route]) -> list[str]:
    on_host = [route.host for route in failed]
    return sorted(hosts, key=lambda host: (failed.count(Route(host, model)), on_host.count(host)))


def next_try_s(
    error: ArrieroError,
    failed: Sequence[Route],
    legs: Sequence[Leg],
    policy: RetryPolicy,
    *,
    repeatable: bool,
    unit: float,
    doubted: Collection[str] = (),
) -> float | None:
    """Seconds until the next try; None when there is to be none.

    `failed` holds every failure so far, this one last. `repeatable` is False once the client has seen part of an
    answer and could not tell a second one from its continuation. What the backend asked for (Retry-After) is a floor
    only where the next try goes to the same host.
    """
    here = failed[-1]
    may_move = error.retryable or isinstance(error, BackendMisconfigured) or _is_fallbacks_own(error, here, legs)
    if not (repeatable and may_move) or len(failed) >= policy.tries:
        return None
    best = next(iter(routes(legs, failed, tries=policy.tries, doubted=doubted)), here)
    if best not in failed:
        # Elsewhere nobody needs a rest; the tries bound how often this can be said.
        return (error.retry_after_s or 0.0) if best.host == here.host else 0.0
    if not error.retryable:
        return None
    return retry_delay_s(error, len(failed) - 1, policy, repeatable=True, unit=unit)


def _is_fallbacks_own(error: ArrieroError, here: Route, legs: Sequence[Leg]) -> bool:
    """A refusal by a model that the caller did not ask for is not the caller's mistake."""
    return isinstance(error, BackendRejected) and not legs[0].has(here)


def needs(request: Request) -> frozenset[str]:
    """Capabilities, in Ollama's words, without which a model cannot serve the request even simplified."""
    found = set()
    if isinstance(request, ChatRequest) and any(message.images for message in request.messages):
        found.add("vision")
    if isinstance(request, CompletionRequest) and request.images:
        found.add("vision")
    if isinstance(request, CompletionRequest) and request.suffix:
        found.add("insert")
    return frozenset(found)


def simplified(request: Request, model: str, policy: FallbackPolicy, capabilities: Collection[str]) -> Request:
    """The request for a fallback model with these known capabilities."""
    match request:
        case ChatRequest():
            return structs.replace(
                request,
                model=model,
                sampling=_smaller(request.sampling, _prompt_bytes(request), policy),
                tools=request.tools if "tools" in capabilities else [],
                think=request.think if "thinking" in capabilities else None,
            )
        case CompletionRequest():
            size = sum(len(text.encode()) for text in (request.system, request.prompt, request.suffix))
            return structs.replace(
                request,
                model=model,
                sampling=_smaller(request.sampling, size, policy),
                think=request.think if "thinking" in capabilities else None,
            )
        case EmbeddingRequest():
            raise ValueError("an embedding has no fallback model")


def unsigned(request: Request) -> Request:
    """The request without the signatures of its thoughts: another model or service would refuse them."""
    if not (isinstance(request, ChatRequest) and any(message.signature for message in request.messages)):
        return request
    return structs.replace(request, messages=[structs.replace(one, signature="") for one in request.messages])


def _prompt_bytes(request: ChatRequest) -> int:
    return sum(len(message.content.encode()) + len(message.thinking.encode()) for message in request.messages)


def _smaller(sampling: Sampling, prompt_bytes: int, policy: FallbackPolicy) -> Sampling:
    wanted = sampling.options.get("num_predict") if sampling.max_tokens is None else sampling.max_tokens
    output = min(wanted, policy.output_tokens) if isinstance(wanted, int) and wanted >= 0 else policy.output_tokens
    needed = math.ceil((prompt_bytes / BYTES_PER_TOKEN + output) / CONTEXT_STEP) * CONTEXT_STEP
    context = max(needed, policy.context_tokens)
    asked = sampling.options.get("num_ctx")
    if isinstance(asked, int):
        context = min(asked, context)
    options = {name: value for name, value in sampling.options.items() if name != "num_predict"}
    return structs.replace(sampling, max_tokens=output, options=options | {"num_ctx": context})


def limits(timeouts: CallTimeouts, left_s: float, policy: FallbackPolicy, *, is_fallback: bool, is_last: bool,
           margin_s: float) -> CallTimeouts:  # fmt: skip
    """A call's limits with `left_s` until the deadline.

    `margin_s` is kept back so that a timeout is still reported before the job expires. `is_last`: there is nothing to
    try after this call, so it may have all of the time.
    """
    total = min(timeouts.total_s, max(left_s - margin_s, left_s / 2))
    first_byte = timeouts.first_byte_s
    if is_fallback:
        total = min(total, policy.timeout_s)
    if not is_last:
        first_byte = min(first_byte, left_s * FIRST_BYTE_SHARE)
    return CallTimeouts(
        connect_s=timeouts.connect_s, first_byte_s=min(first_byte, total), gap_s=timeouts.gap_s, total_s=total
    )
