"""The installed models and what they can do, guessed from their names."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from infra.simulator.durations import local_time
from infra.simulator.names import full_name, shown_name, stem

_DIMENSIONS = {"all-minilm": 384, "mxbai-embed-large": 1024, "bge-m3": 1024, "bge-large": 1024,
               "snowflake-arctic-embed": 1024, "snowflake-arctic-embed2": 1024}  # fmt: skip
_BILLIONS = {"llama3.2": 3.2, "mistral": 7.2, "llama2": 6.7, "llama3.1": 8.0, "codellama": 6.7, "phi": 2.8, "phi3": 3.8,
             "qwen2.5": 7.6, "qwen3": 8.2, "mixtral": 46.7, "gemma3": 4.3, "nomic-embed-text": 0.137,
             "all-minilm": 0.023, "mxbai-embed-large": 0.334}  # fmt: skip
_EMBEDDING = re.compile(r"embed|minilm|^bge|^gte|^e5|arctic")
_THINKING = re.compile(r"deepseek-r1|^qwen3|gpt-oss|magistral|think")
_VISION = re.compile(r"llava|vision|gemma3|moondream|minicpm-v|qwen2\.5vl|llama4|mistral-small3")
_TOOLLESS = re.compile(r"^(llama2|codellama|phi|phi3|gemma|gemma2|llava|tinyllama|vicuna|orca-mini|moondream)$")
_INSERT = re.compile(r"code|coder")
_SIZE_TAG = re.compile(r"(\d+(?:\.\d+)?)b")
BYTES_PER_PARAMETER = 0.6
"""Of the usual four-bit quantisation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One installed name. Names with one digest share weights, and so a runner."""

    name: str
    """host/namespace/model:tag"""
    digest: str
    """64 hex digits."""
    size_bytes: int
    billions: float
    family: str
    capabilities: tuple[str, ...]
    context_length: int
    dimensions: int
    modified_at: float

    @property
    def shown(self) -> str:
        return shown_name(self.name)

    @property
    def is_embedding(self) -> bool:
        return "embedding" in self.capabilities

    def can(self, capability: str) -> bool:
        return capability in self.capabilities

    @property
    def calls_tools_in_final_chunk(self) -> bool:
        """Ollama reads tool calls in two ways; this family goes the one that shows them in the last chunk."""
        return self.family == "mistral"

    def details(self) -> dict[str, object]:
        size = f"{self.billions:.1f}B" if self.billions >= 1 else f"{self.billions * 1000:.0f}M"
        return {
            "parent_model": "",
            "format": "gguf",
            "family": self.family,
            "families": [self.family],
            "parameter_size": size,
            "quantization_level": "Q4_K_M",
            "context_length": self.context_length,
            "embedding_length": self.dimensions,
        }

    def listing(self) -> dict[str, Any]:
        """The item of /api/tags."""
        return {
            "name": self.shown,
            "model": self.shown,
            "modified_at": local_time(self.modified_at),
            "size": self.size_bytes,
            "digest": self.digest,
            "details": self.details(),
            "capabilities": list(self.capabilities),
        }


def make_model(name: str, *, dimensions: int = 0) -> Model:
    """The model that stands behind `name`. Raises ApiError 400 for what is not a name."""
    full = full_name(name)
    base, tag = stem(full), full.rpartition(":")[2]
    sized = _SIZE_TAG.search(tag) or _SIZE_TAG.search(base)
    billions = float(sized[1]) if sized else _BILLIONS.get(base, 7.0)
    family = re.split(r"[\d:_.-]", base, maxsplit=1)[0] or base
    if embedding := _EMBEDDING.search(base) is not None:
        capabilities = ["embedding"]
    else:
        guesses = {"tools": not _TOOLLESS.match(base), "insert": _INSERT.search(base), "vision": _VISION.search(base),
                   "thinking": _THINKING.search(base)}  # fmt: skip
        capabilities = ["completion", *(name for name, yes in guesses.items() if yes)]
    return Model(
        name=full,
        digest=hashlib.sha256(full.encode()).hexdigest(),
        size_bytes=int(billions * 1e9 * BYTES_PER_PARAMETER),
        billions=billions,
        family=family,
        capabilities=tuple(capabilities),
        context_length=8192 if embedding else 131_072,
        dimensions=(dimensions or _DIMENSIONS.get(base, 768)) if embedding else 4096,
        modified_at=time.time(),
    )


class Catalogue:
    """Installed models by full name."""

    def __init__(self, names: Iterable[str], *, dimensions: int = 0) -> None:
        self._names = tuple(names)
        self._dimensions = dimensions
        self._models: dict[str, Model] = {}
        self._known_as: dict[str, Model] = {}
        self.reset()

    def reset(self) -> None:
        """Back to the models it began with."""
        self._models = {(model := self._make(name)).name: model for name in self._names}
        self._known_as.clear()

    def _make(self, name: str) -> Model:
        return make_model(name, dimensions=self._dimensions)

    def find(self, name: str) -> Model | None:
        """Raises ApiError as `full_name` does."""
        # Asked once per call, nearly always with one of a few spellings.
        if (model := self._known_as.get(name)) is None and (model := self._models.get(full_name(name))):
            if len(self._known_as) > 1000:
                self._known_as.clear()
            self._known_as[name] = model
        return model

    def install(self, name: str) -> Model:
        model = self._make(name)
        self._put(model)
        return model

    def copy(self, source: Model, destination: str) -> None:
        self._put(replace(source, name=full_name(destination), modified_at=time.time()))

    def remove(self, model: Model) -> None:
        del self._models[model.name]
        self._known_as.clear()

    def _put(self, model: Model) -> None:
        self._models[model.name] = model
        self._known_as.clear()

    def all(self) -> list[Model]:
        """Newest first."""
        return sorted(self._models.values(), key=lambda model: model.modified_at, reverse=True)
