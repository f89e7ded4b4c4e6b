"""In what the servers of OpenAI's dialect differ, as data: one `Quirks` a preset.

What every reader can bear is no quirk and not listed here: comment lines in a stream, errors inside a choice, a last
chunk with the usage only, reasoning under either of its two names, vectors as numbers or as base64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Streaming = Literal["always", "without_tools", "never"]
JsonSchema = Literal["json_schema", "json_object", "none"]
JsonMode = Literal["json_object", "open_schema", "none"]
ThinkStyle = Literal["none", "reasoning_effort", "reasoning", "template"]
Inventory = Literal["models", "lm_studio", "llama_cpp"]

NO_OPTIONS: Mapping[str, str] = MappingProxyType({})
LLAMA_CPP_OPTIONS: Mapping[str, str] = MappingProxyType(
    {name: name for name in ("top_k", "min_p", "typical_p", "repeat_penalty", "repeat_last_n")}
)
LLAMA_CPP_PYTHON_OPTIONS: Mapping[str, str] = MappingProxyType(
    {name: name for name in ("top_k", "min_p", "repeat_penalty")}
)


@dataclass(slots=True, frozen=True, kw_only=True)
class Quirks:
    """How one kind of server differs from the dialect. The defaults are those of a server that nobody knows: it is sent
    what OpenAI's own documents had from the start, and nothing else."""

    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """How the limit on an answer is called in a chat. A plain completion knows `max_tokens` only."""
    default_max_tokens: int | None = None
    """Sent where a request brings no limit, to a server whose own default is too small to be of use."""
    fixed_sampling: str = ""
    """Pattern of models that refuse sampling parameters, `stop` and logprobs; for them these are left out."""
    options: Mapping[str, str] = field(default_factory=lambda: NO_OPTIONS)
    """Ollama's options that the server knows too -> its names for them. All others are left out."""
    streams: Streaming = "always"
    """When to ask for a stream; else the answer comes in one piece."""
    stream_usage: bool = True
    """Asks for the token counts of a stream (`stream_options.include_usage`)."""
    tools: bool = True
    """Without, a request with tools is refused here, since the server would ignore them."""
    json_mode: JsonMode = "json_object"
    """How "any JSON" is asked for: as such, as a schema of any object, or not at all."""
    json_schema: JsonSchema = "json_schema"
    """Where a schema goes: into a format of its own, into that of any JSON, or nowhere: then a request for one is
    refused here."""
    think: ThinkStyle = "none"
    """Where a request's wish to think, or not to, goes."""
    thinking_models: str = ".*"
    """Pattern of models that may be sent that wish."""
    thinking_field: str = ""
    """Under which name earlier thinking goes back to the model; empty: it stays out."""
    completion_models: str = ".*"
    """Pattern of models that have /completions; for others a prompt is sent as a chat."""
    base64_embeddings: bool = False
    """Asks for vectors as base64: a third of the bytes."""
    inventory: Inventory = "models"
    """Where the server tells what it has, and what of that is in memory."""
    keeps_connections: bool = False
    """Uses a connection for more than one call. llama.cpp's server closes it after a stream, having promised to keep
    it, and the next call on it would fail; so only servers known to do better are trusted with that."""
    headers: Mapping[str, str] = field(default_factory=lambda: NO_OPTIONS)
    """Sent with every call."""


QUIRKS: Mapping[str, Quirks] = MappingProxyType(
    {
        "openai": Quirks(
            max_tokens_field="max_completion_tokens",
            fixed_sampling=r"o\d.*|gpt-5(?!.*chat).*",
            think="reasoning_effort",
            thinking_models=r"o\d.*|gpt-5(?!.*chat).*|gpt-oss.*",
            completion_models=r"gpt-3\.5-turbo-instruct.*|davinci-002|babbage-002|ft:(davinci|babbage)-002.*",
            base64_embeddings=True,
            keeps_connections=True,
        ),
        "openrouter": Quirks(
            options=MappingProxyType({"top_k": "top_k", "min_p": "min_p", "repeat_penalty": "repetition_penalty"}),
            think="reasoning",
            thinking_field="reasoning",
            headers=MappingProxyType({"X-Title": "Arriero"}),
            keeps_connections=True,
        ),
        "lm_studio": Quirks(
            options=MappingProxyType({"top_k": "top_k", "min_p": "min_p", "repeat_penalty": "repeat_penalty"}),
            json_mode="open_schema",
            inventory="lm_studio",
            keeps_connections=True,
        ),
        "jan": Quirks(options=LLAMA_CPP_OPTIONS, think="template", completion_models=""),
        "gpt4all": Quirks(
            default_max_tokens=4096,
            options=MappingProxyType({"min_p": "min_p"}),
            streams="never",
            stream_usage=False,
            tools=False,
            json_mode="none",
            json_schema="none",
        ),
        "localai": Quirks(
            options=MappingProxyType(
                {"top_k": "top_k", "min_p": "min_p", "typical_p": "typical_p", "repeat_penalty": "repeat_penalty"}
            ),
            streams="without_tools",
            keeps_connections=True,
        ),
        "cortex": Quirks(
            options=LLAMA_CPP_OPTIONS,
            completion_models="",
        ),
        "vllm": Quirks(
            options=MappingProxyType({"top_k": "top_k", "min_p": "min_p", "repeat_penalty": "repetition_penalty"}),
            think="template",
            thinking_field="reasoning",
            base64_embeddings=True,
            keeps_connections=True,
        ),
        "llamacpp": Quirks(
            options=LLAMA_CPP_OPTIONS,
            think="template",
            thinking_field="reasoning_content",
            base64_embeddings=True,
            inventory="llama_cpp",
        ),
        "llama_cpp_python": Quirks(
            options=LLAMA_CPP_PYTHON_OPTIONS,
            json_schema="json_object",
            inventory="llama_cpp",
        ),
    }
)
"""By preset. A service whose preset is not here has `Quirks()`."""
