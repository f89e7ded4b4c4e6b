"""Which model to use when none is named: from the gateway's own list. Pure."""

from __future__ import annotations

import re

from arriero.models import JsonObject

_EMBEDS = re.compile(r"embed|minilm|bge-|gte-|e5-", re.IGNORECASE)


def names(listing: JsonObject) -> list[str]:
    """Ids in a `GET /v1/models` answer."""
    return [str(item["id"]) for item in listing.get("data") or [] if item.get("id")]


def first_chat_model(listing: JsonObject) -> str:
    """The first model that is not one for embeddings; empty when there is none."""
    return next((name for name in names(listing) if not _EMBEDS.search(name)), "")


def first_embedding_model(listing: JsonObject) -> str:
    return next((name for name in names(listing) if _EMBEDS.search(name)), "")
