"""One name for one model, however a caller or a server spells it."""

from __future__ import annotations

from collections.abc import Collection
from fnmatch import fnmatchcase
from functools import lru_cache


@lru_cache(maxsize=1024)
def same(model: str) -> str:
    """What two spellings of one model's name have in common: Ollama ignores case, and means `:latest` by no tag."""
    return model.strip().lower().removesuffix(":latest")


def is_allowed(model: str, allowed: Collection[str]) -> bool:
    """Whether an allow list lets `model` through. `*` stands for any letters; an empty list lets all through."""
    return not allowed or any(fnmatchcase(same(model), same(pattern)) for pattern in allowed)
