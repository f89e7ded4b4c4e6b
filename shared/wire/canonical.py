"""The one form of a request and an answer inside Arriero.

Faces (OpenAI, Ollama, Anthropic, jobs) translate into it, backends translate out of it. It is stored as msgpack,
without the fields that have their default; what does not fit the types is refused when it is read.
"""

from __future__ import annotations

from array import array
from typing import Any, Literal

from msgspec import Struct, field

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
ThinkLevel = Literal["low", "medium", "high", "max"]
Think = bool | ThinkLevel | None


class ToolCall(Struct, kw_only=True, omit_defaults=True):
    """A call the model wants made. `arguments` is JSON text of an object."""

    id: str
    name: str
    arguments: str


class Message(Struct, kw_only=True, omit_defaults=True):
    """One turn. `images` are base64 without a data: prefix."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    thinking: str = ""
    signature: str = ""
    """By which the service that thought it knows `thinking` again, as it gave it; empty where nobody signed."""
    images: list[str] = []
    tool_calls: list[ToolCall] = []
    tool_call_id: str = ""
    tool_name: str = ""


class Sampling(Struct, kw_only=True, omit_defaults=True):
    """Generation parameters; None leaves the model's own default."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: list[str] = []
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    options: dict[str, Any] = {}
    """Backend-specific extras (num_ctx, top_k, ...), passed through to an Ollama backend."""


class ChatRequest(Struct, kw_only=True, omit_defaults=True):
    """A conversation to continue. `format` is None, "json" or a JSON schema; tools are in OpenAI's shape."""

    model: str
    messages: list[Message]
    sampling: Sampling = field(default_factory=Sampling)
    tools: list[dict[str, Any]] = []
    format: Literal["json"] | dict[str, Any] | None = None
    think: Think = None
    logprobs: bool = False
    top_logprobs: int = 0
    truncate: bool = True
    """Drop the oldest turns of a conversation that is too long, or refuse it."""
    keep_alive: str | float | None = None


class CompletionRequest(Struct, kw_only=True, omit_defaults=True):
    """A text to continue. `images` are base64 without a data: prefix; `raw` leaves the model's template out."""

    model: str
    prompt: str
    suffix: str = ""
    system: str = ""
    images: list[str] = []
    sampling: Sampling = field(default_factory=Sampling)
    format: Literal["json"] | dict[str, Any] | None = None
    think: Think = None
    raw: bool = False
    logprobs: bool = False
    top_logprobs: int = 0
    truncate: bool = True
    keep_alive: str | float | None = None


class EmbeddingRequest(Struct, kw_only=True, omit_defaults=True):
    """Texts to turn into vectors."""

    model: str
    inputs: list[str]
    dimensions: int | None = None
    truncate: bool = True
    options: dict[str, Any] = {}
    """As in `Sampling`."""
    keep_alive: str | float | None = None


Request = ChatRequest | CompletionRequest | EmbeddingRequest


class Delta(Struct, omit_defaults=True):
    """What a backend adds to an answer, in the order it came. Tool calls come whole, never in pieces."""

    content: str = ""
    thinking: str = ""
    tool_calls: list[ToolCall] = []
    logprobs: list[dict[str, Any]] = []
    """Ollama's and OpenAI's shared shape: {token, logprob, bytes, top_logprobs}."""
    signature: str = ""
    """Of the thinking so far, which ends with it."""


class Usage(Struct, kw_only=True, omit_defaults=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Timings(Struct, kw_only=True, omit_defaults=True):
    """Seconds, as the backend reports them; 0 where it does not."""

    total_s: float = 0.0
    load_s: float = 0.0
    prompt_s: float = 0.0
    eval_s: float = 0.0


class Finish(Struct, kw_only=True, omit_defaults=True):
    """The last thing a backend's stream yields; without it the answer is not whole."""

    reason: FinishReason
    usage: Usage
    timings: Timings = field(default_factory=Timings)


class TextAnswer(Struct, kw_only=True, omit_defaults=True):
    """The whole answer to a chat or completion."""

    model: str
    """The model that answered."""
    service: str = ""
    """The service it is at."""
    backend: str = ""
    content: str = ""
    thinking: str = ""
    signature: str = ""
    """As in `Message`. Thinking in several pieces, each signed, has none as a whole."""
    tool_calls: list[ToolCall] = []
    logprobs: list[dict[str, Any]] = []
    finish_reason: FinishReason = "stop"
    usage: Usage = field(default_factory=Usage)
    timings: Timings = field(default_factory=Timings)
    fallback_from: str = ""
    """The model asked for, when `model` is another one that stood in for it."""
    cached: bool = False
    """An earlier answer to the same request, given because nothing could answer anew."""


class EmbeddingAnswer(Struct, kw_only=True, omit_defaults=True):
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
