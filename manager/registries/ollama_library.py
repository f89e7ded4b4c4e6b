"""Ollama's library, which has no API for searching: its search page, read by the marks it carries for tests. Pure.

Where the page changes its marks nothing is found, and `read_models` says so rather than guess.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Final
from urllib.parse import urlencode

from manager.registries.record import RegistryModel
from manager.registries.texts import MAX_TAGS, count, one_line

NAME: Final = "ollama"
_LIBRARY = "/library/"
_MODEL = "x-test-model"
_TEXTS = {
    "x-test-search-response-title": "title",
    "x-test-capability": "tags",
    "x-test-size": "tags",
    "x-test-pull-count": "pulls",
    "x-test-updated": "updated",
}
"""Mark of an element -> what its text is."""


def search_path(text: str, limit: int) -> str:
    """The page has a length of its own, so `limit` is for the reader of its answer."""
    return f"/search?{urlencode({'q': text})}"


@dataclass(slots=True)
class _Card:
    href: str = ""
    texts: dict[str, list[str]] = field(default_factory=dict)

    def add(self, what: str, text: str) -> None:
        self.texts.setdefault(what, []).append(text)

    def first(self, what: str) -> str:
        return one_line(next(iter(self.texts.get(what, ())), ""))


class _Page(HTMLParser):
    """Cards in their order. Elements within a marked one belong to its text."""

    def __init__(self) -> None:
        super().__init__()
        self.cards: list[_Card] = []
        self._open: tuple[str, str] | None = None
        self._text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        marks = dict(attrs)
        if tag == "li" and _MODEL in marks:
            self.cards.append(_Card())
        if not self.cards:
            return
        if tag == "a" and not self.cards[-1].href:
            self.cards[-1].href = marks.get("href") or ""
        what = next((_TEXTS[mark] for mark in marks if mark in _TEXTS), None)
        if tag == "p" and not self.cards[-1].texts.get("description"):
            what = "description"
        if what is not None and self._open is None:
            self._open, self._text = (tag, what), ""

    def handle_endtag(self, tag: str) -> None:
        if self._open is not None and tag == self._open[0]:
            self.cards[-1].add(self._open[1], self._text)
            self._open = None

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self._text += data


def read_models(body: bytes, base_url: str) -> list[RegistryModel]:
    """Raises ValueError for a body that is no search page."""
    page = _Page()
    page.feed(body.decode("utf-8", "replace"))
    page.close()
    if not page.cards and b"<html" not in body[:4096].lower():
        raise ValueError("it is not the page expected here")
    return [_model(card, base_url) for card in page.cards if card.href.startswith("/") and card.href.count("/") == 2]


def _model(card: _Card, base_url: str) -> RegistryModel:
    # Models of the library go by their bare name, those of users by owner and name.
    name = one_line(card.href.removeprefix(_LIBRARY).removeprefix("/"))
    return RegistryModel(
        registry=NAME,
        id=name,
        pull_name=name,
        description=card.first("description"),
        downloads=count(card.first("pulls")),
        tags=tuple(one_line(tag) for tag in card.texts.get("tags", ())[:MAX_TAGS]),
        url=base_url + card.href,
        updated=card.first("updated"),
    )
