"""The manager's pages about what models are: those installed, and those that outside registries have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import cast, get_args

from aiohttp import web

from manager.answers import Body
from manager.registries.record import REGISTRY_NAMES, RegistryModel, RegistryName
from manager.registries.search import Registries
from shared.catalogue.guess import guess
from shared.catalogue.record import ModelRecord
from shared.catalogue.table import ModelTable, Place
from shared.errors import BadRequest
from shared.model_names import same
from shared.pages import Page

LONGEST_TEXT = 100
MOST_SHOWN = 50
_GUESSED = ("type", "parameters", "quantization", "instructed", "coding", "tooling", "is_mlx", "is_gguf")


class CataloguePages:
    """The handlers. `place` is where the managers' own model servers are."""

    def __init__(self, table: ModelTable, place: Place, registries: Registries) -> None:
        self._table = table
        self._place = place
        self._registries = registries

    @property
    def pages(self) -> list[Page]:
        return [
            Page(method="GET", path="/models/search", handler=self.search),
            Page(method="GET", path="/models/about", handler=self.about),
        ]

    async def search(self, request: web.Request) -> Body:
        """`?text=llama&registry=ollama&limit=20`: models of outside registries."""
        text = _text(request, "text")
        limit = request.query.get("limit", "20")
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit) <= MOST_SHOWN):
            raise BadRequest(f"`limit` must be a number from 1 to {MOST_SHOWN}.", param="limit")
        found = await self._registries.search(text, _registries(request.query.get("registry", "")))
        return {
            "text": text,
            "models": [body for name in REGISTRY_NAMES for body in _of(name, found.models)[: int(limit)]],
            "errors": [{"registry": name, "message": message} for name, message in found.errors.items()],
        }

    async def about(self, request: web.Request) -> Body:
        """`?name=llama3.2`: the records of one model. Registries are not asked: what earlier searches found counts."""
        name = _text(request, "name")
        installed = [record for record in await self._table.of(self._place) if same(record.upstream_name) == same(name)]
        return {
            "name": name,
            "installed": [record_body(record) for record in installed],
            "found": [_found_body(model) for model in await self._registries.kept(name)],
        }


def record_body(record: ModelRecord) -> Body:
    return {"name": record.name, **asdict(record)}


def _of(name: RegistryName, models: Sequence[RegistryModel]) -> list[Body]:
    return [_found_body(model) for model in models if model.registry == name]


def _found_body(model: RegistryModel) -> Body:
    """Null where the registry does not say; what the name tells besides is a guess."""
    known = asdict(model) | {
        name: None if getattr(model, name) < 0 else getattr(model, name) for name in ("likes", "trend", "downloads")
    }
    guessed = guess(model.registry, model.id)
    return {**known, "guessed": {name: getattr(guessed, name) for name in _GUESSED}}


def _text(request: web.Request, name: str) -> str:
    text = request.query.get(name, "").strip()
    if not text or len(text) > LONGEST_TEXT or not text.isprintable():
        raise BadRequest(f"`{name}` must be a text of 1 to {LONGEST_TEXT} characters.", param=name)
    return text


def _registries(given: str) -> Sequence[RegistryName]:
    if not given:
        return REGISTRY_NAMES
    if given not in get_args(RegistryName):
        raise BadRequest(f"`registry` must be one of {', '.join(REGISTRY_NAMES)}.", param="registry")
    return (cast("RegistryName", given),)
