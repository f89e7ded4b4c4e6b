"""The one form of a request and an answer inside Arriero.

Faces (OpenAI, Ollama, jobs, later Anthropic) translate into it, backends translate out of it. Plain dataclasses:
msgspec encodes them as msgpack and refuses, when decoding, what does not fit the types.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any, Literal

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
ThinkLevel = Literal["low", "medium", "high", "max"]
Think = bool | ThinkLevel | None


@dataclass(slots=True, kw_only=True)
class ToolCall:
    """A call the model wants made. `arguments` is JSON text of an object."""

    id: str
    name: str
    arguments: str


@dataclass(slots=True, kw_only=True)
class Message:
    """One turn. `images` are base64 without a data: prefix."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    thinking: str = ""
    images: list[str] = field(default_factory=list)
    tool_calls: list[ToolCall] = field(default_factory=list)
    tool_call_id: str = ""
    tool_name: str = ""


@dataclass(slots=True, kw_only=True)
class Sampling:
    """Generation parameters; None leaves the model's own default."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: list[str] = field(default_factory=list)
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    options: dict[str, Any] = field(default_factory=dict)
    """Backend-specific extras (num_ctx, top_k, ...), passed through to an Ollama backend."""


@dataclass(slots=True, kw_only=True)
class ChatRequest:
    """A conversation to continue. `format` is None, "json" or a JSON schema; tools are in OpenAI's shape."""

    model: str
    messages: list[Message]
    sampling: Sampling = field(default_factory=Sampling)
    tools: list[dict[str, Any]] = field(default_factory=list)
    format: Literal["json"] | dict[str, Any] | None = None
    think: Think = None
    logprobs: bool = False
    top_logprobs: int = 0
    truncate: bool = True
    """Drop the oldest turns of a conversation that is too long, or refuse it."""
    keep_alive: str | float | None = None


@dataclass(slots=True, kw_only=True)
class CompletionRequest:
    """A text to continue. `images` are base64 without a data: prefix; `raw` leaves the model's template out."""

    model: str
    prompt: str
    suffix: str = ""
    system: str = ""
    images: list[str] = field(default_factory=list)
    sampling: Sampling = field(default_factory=Sampling)
    format: Literal["json"] | dict[str, Any] | None = None
    think: Think = None
    raw: bool = False
    logprobs: bool = False
    top_logprobs: int = 0
    truncate: bool = True
    keep_alive: str | float | None = None


@dataclass(slots=True, kw_only=True)
class EmbeddingRequest:
    """Texts to turn into vectors."""

    model: str
    inputs: list[str]
    dimensions: int | None = None
    truncate: bool = True
    options: dict[str, Any] = field(default_factory=dict)
    """As in `Sampling`."""
    keep_alive: str | float | None = None


Request = ChatRequest | CompletionRequest | EmbeddingRequest


@dataclass(slots=True)
class Delta:
    """What a backend adds to an answer, in the order it came. Tool calls come whole, never in pieces."""

    content: str = ""
    thinking: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    """Ollama's and OpenAI's shared shape: {token, logprob, bytes, top_logprobs}."""


@dataclass(slots=True, kw_only=True)
class Usage:
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(slots=True, kw_only=True)
class Timings:
    """Seconds, as the backend reports them; 0 where it does not."""

    total_s: float = 0.0
    load_s: float = 0.0
    prompt_s: float = 0.0
    eval_s: float = 0.0


@dataclass(slots=True, kw_only=True)
class Finish:
    """The last thing a backend's stream yields; without it the answer is not whole."""

    reason: FinishReason
    usage: Usage
    timings: Timings = field(default_factory=Timings)


@dataclass(slots=True, kw_only=True)
class TextAnswer:
    """The whole answer to a chat or completion."""

    model: str
    """The model that answered."""
    service: str = ""
    """The service it is at."""
    backend: str = ""
    content: str = ""
    thinking: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: FinishReason = "stop"
    usage: Usage = field(default_factory=Usage)
    timings: Timings = field(default_factory=Timings)
    fallback_from: str = ""
    """The model asked for, when `model` is another one that stood in for it."""
    cached: bool = False
    """An earlier answer to the same request, given because nothing could answer anew."""


@dataclass(slots=True, kw_only=True)
class EmbeddingAnswer:
    """Vectors in input order, each packed as little-endian float32."""

    model: str
    vectors: list[bytes]
    service: str = ""
    backend: str = ""
    usage: Usage = field(default_factory=Usage)
    timings: Timings = field(default_factory=Timings)


def pack_vector(values: list[float]) -> bytes:
    """float32 little-endian. Raises OverflowError or TypeError for what is not a float32."""
    packed = array("f", values)
    return packed.tobytes()


def unpack_vector(packed: bytes) -> list[float]:
    values = array("f")
    values.frombytes(packed)
    return values.tolist()
