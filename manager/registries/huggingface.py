"""Hugging Face's list of models: those with GGUF files, which Ollama can pull as `hf.co/<owner>/<name>`. Pure."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

import msgspec

from manager.registries.record import RegistryModel
from manager.registries.texts import MAX_TAGS, one_line

NAME: Final = "huggingface"


class _Model(msgspec.Struct):
    id: str
    likes: int | None = None
    trendingScore: float | None = None
    downloads: int | None = None
    tags: list[str] | None = None
    createdAt: str | None = None
    lastModified: str | None = None


_MODELS = msgspec.json.Decoder(list[_Model])


def search_path(text: str, limit: int) -> str:
    """The most downloaded first, as its search page has it."""
    wanted = [field for field in _Model.__struct_fields__ if field != "id"]
    query = {"search": text, "filter": "gguf", "sort": "downloads", "limit": limit, "expand": wanted}
    return f"/api/models?{urlencode(query, doseq=True)}"


def read_models(body: bytes, base_url: str) -> list[RegistryModel]:
    """Raises ValueError for a body that is not such a list."""
    return [_model(found, base_url) for found in _MODELS.decode(body) if found.id.count("/") == 1]


def _model(found: _Model, base_url: str) -> RegistryModel:
    model_id = one_line(found.id)
    return RegistryModel(
        registry=NAME,
        id=model_id,
        pull_name=f"hf.co/{model_id}",
        likes=-1 if found.likes is None else found.likes,
        trend=-1.0 if found.trendingScore is None else found.trendingScore,
        downloads=-1 if found.downloads is None else found.downloads,
        tags=tuple(map(one_line, (found.tags or ())[:MAX_TAGS])),
        url=f"{base_url}/{model_id}",
        created_at=one_line(found.createdAt or ""),
        updated=one_line(found.lastModified or ""),
    )
