"""Services that are known by name: where they listen, what they speak, what they can do. Data only.

The URL of a service that speaks OpenAI's dialect ends where OpenAI's own `base_url` ends, in `/v1`: paths such as
`/chat/completions` are added to it. The others' end at the host.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

ApiFormat = Literal["ollama", "openai", "anthropic", "mock"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceCapabilities:
    """What can be asked of a service. `import_model`: from a local file; `load_*`: while a model comes into memory."""

    install: bool = False
    import_model: bool = False
    update: bool = False
    load: bool = False
    unload: bool = False
    delete: bool = False
    load_progress: bool = False
    load_cancel: bool = False
    load_timeout: bool = False
    hugging_face_models: bool = False
    ollama_models: bool = False
    inference: bool = True
    streaming: bool = True
    embedding: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What is known of a service by its name alone. `key_pattern` is what its own keys look like, as a whole."""

    api_format: ApiFormat
    url: str = ""
    is_local: bool = False
    key_variable: str = ""
    key_pattern: str = ""
    capabilities: ServiceCapabilities = ServiceCapabilities()


_GGUF = ServiceCapabilities(hugging_face_models=True)
_WITHOUT_VECTORS = ServiceCapabilities(embedding=False)

PRESETS: dict[str, Preset] = {
    "ollama": Preset(
        api_format="ollama",
        url="http://localhost:11434",
        is_local=True,
        capabilities=ServiceCapabilities(
            install=True, import_model=True, update=True, load=True, unload=True, delete=True, load_timeout=True,
            load_cancel=True, hugging_face_models=True, ollama_models=True,
        ),
    ),
    "openai": Preset(
        api_format="openai",
        url="https://api.openai.com/v1",
        key_variable="OPENAI_API_KEY",
        key_pattern=r"sk-[A-Za-z0-9_-]{16,}",
    ),
    "openrouter": Preset(
        api_format="openai",
        url="https://openrouter.ai/api/v1",
        key_variable="OPENROUTER_API_KEY",
        key_pattern=r"sk-or-[A-Za-z0-9_-]{16,}",
    ),
    "anthropic": Preset(
        api_format="anthropic",
        url="https://api.anthropic.com",
        key_variable="ANTHROPIC_API_KEY",
        key_pattern=r"sk-ant-[A-Za-z0-9_-]{16,}",
        capabilities=_WITHOUT_VECTORS,
    ),
    "lm_studio": Preset(api_format="openai", url="http://localhost:1234/v1", is_local=True, capabilities=_GGUF),
    "jan": Preset(api_format="openai", url="http://localhost:1337/v1", is_local=True, capabilities=_GGUF),
    "gpt4all": Preset(
        api_format="openai",
        url="http://localhost:4891/v1",
        is_local=True,
        capabilities=replace(_GGUF, embedding=False),
    ),
    "localai": Preset(api_format="openai", url="http://localhost:8080/v1", is_local=True, capabilities=_GGUF),
    "cortex": Preset(api_format="openai", url="http://localhost:39281/v1", is_local=True, capabilities=_GGUF),
    # By themselves vLLM and llama-cpp-python listen on 8000, which here is the gateway's port.
    "vllm": Preset(api_format="openai", url="http://localhost:8001/v1", is_local=True, capabilities=_GGUF),
    "llamacpp": Preset(api_format="openai", url="http://localhost:8080/v1", is_local=True, capabilities=_GGUF),
    "llama_cpp_python": Preset(
        api_format="openai", url="http://localhost:8001/v1", is_local=True, capabilities=_GGUF
    ),
    "mock": Preset(api_format="mock", url="mock://localhost", is_local=True),
}  # fmt: skip

DIALECTS: dict[ApiFormat, Preset] = {
    "ollama": replace(PRESETS["ollama"], url="", is_local=False),
    "openai": Preset(api_format="openai"),
    "anthropic": Preset(api_format="anthropic", capabilities=_WITHOUT_VECTORS),
    "mock": replace(PRESETS["mock"], is_local=False),
}
"""For a service of another name: what follows from its dialect alone. Whether its machines are ours, it must say."""
