"""Which line a job waits in. A line is one manner of use of one unit: what a host must have in memory to run the job.

A unit is a model with its context length, where the caller asks for one: Ollama loads a model anew for another context.
Embeddings have lines of their own, so that one call can serve several of their jobs. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from shared.jobs import Kind
from shared.model_names import same
from shared.services.names import TILDE
from shared.wire.canonical import ChatRequest, CompletionRequest, EmbeddingRequest

HOME = "ollama"
"""The service of our Ollama hosts."""
EMBEDDINGS = "e:"
TEXTS = "t:"


def unit_of(model: str, options: Mapping[str, Any] | None = None, service: str = HOME) -> str:
    """The unit's name: `llama3.2`, or `llama3.2#8192` where the options ask for that many tokens of context;
    `openai~gpt-5` at another service than our Ollama hosts."""
    context = (options or {}).get("num_ctx")
    # The scripts part a slot's name at `|`.
    name = same(model).replace("|", "_")
    if service != HOME:
        return f"{service}{TILDE}{name}"
    return f"{name}#{context}" if isinstance(context, int) else name


def line_of(kind: str, model: str, request: object, service: str = HOME) -> str:
    """The line of a job with a canonical request, which that service is asked for first."""
    match request:
        case ChatRequest() | CompletionRequest():
            options = request.sampling.options
        case EmbeddingRequest():
            options = request.options
        case _:
            options = {}
    return line_named(kind, unit_of(model, options, service)) if options else _usual_line(kind, model, service)


@lru_cache(maxsize=1024)
def _usual_line(kind: str, model: str, service: str) -> str:
    """The line of a job without options, as most are."""
    return line_named(kind, unit_of(model, service=service))


def line_named(kind: str, unit: str) -> str:
    return (EMBEDDINGS if kind == Kind.EMBEDDING else TEXTS) + unit


def unit_in(line: str) -> str:
    """The unit that a line is for."""
    return line[len(TEXTS) :]


def service_in(unit: str) -> str:
    """The service whose hosts alone have the unit."""
    service, tilde, _ = unit.partition(TILDE)
    return service if tilde else HOME


def model_in(unit: str) -> str:
    """The model that a unit is of, without its service and context."""
    return unit.partition(TILDE)[2] or unit.partition("#")[0]


def takes_batches(line: str) -> bool:
    """Whether one call can serve several jobs of the line."""
    return line.startswith(EMBEDDINGS)
