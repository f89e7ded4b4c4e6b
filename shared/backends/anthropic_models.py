"""What the models of the Messages API take, told from their names, and the list of models as it answers it. Pure.

The API refuses with 400 what a model has no word for, and each generation has dropped something: fixed thinking
budgets, sampling parameters, switching thinking off, forced tools. Names carry the generation, before the family
(`claude-3-7-sonnet-20250219`) or after it (`claude-opus-4-6`). A name of another kind, as servers that only speak this
API have, gets the oldest and plainest form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import msgspec

from shared.backends.base import ModelInfo
from shared.errors import BackendProtocolError

Version = tuple[int, int]
WithoutThinking = Literal["omit", "disabled", "between_tools", "low_effort"]
"""How a model is told not to think: by silence, by a word, or, where it always thinks, only to think less."""

_NAME = re.compile(
    r"(?:.*[/.])?claude-(?:(\d{1,2})(?:[-.](\d{1,2}))?-)?([a-z]+)(?:-(\d{1,2})(?:[-.](\d{1,2}))?)?(?![\d.])"
)
ALWAYS_THINKING = frozenset({"fable", "mythos"})


@dataclass(slots=True, frozen=True, kw_only=True)
class Traits:
    """What may be sent for one model."""

    samples: bool
    """It takes temperature, top_p and top_k."""
    adapts: bool
    """It chooses for itself how long to think, by an effort; else it is given a number of tokens to think."""
    shows_thinking: bool
    """It shows its thinking without being asked to show it."""
    takes_schema: bool
    """It takes a JSON schema for its answer; else it is made to call a tool whose input is the answer."""
    without_thinking: WithoutThinking

    @property
    def can_be_made_to_call(self) -> bool:
        """It can be told which tool to call; one that thinks of itself cannot."""
        return self.without_thinking == "omit"


PLAIN = Traits(samples=True, adapts=False, shows_thinking=True, takes_schema=False, without_thinking="omit")


def traits(model: str) -> Traits:
    """What the model of this name takes."""
    found = _NAME.match(model.strip().lower())
    if found is None:
        return PLAIN
    family = found[3]
    version: Version = (int(found[1] or found[4] or 0), int(found[2] or found[5] or 0))
    always = family in ALWAYS_THINKING
    if version == (0, 0) and not always:
        return PLAIN
    return Traits(
        samples=version < (4, 7) and not always,
        adapts=version >= (4, 6) or always,
        shows_thinking=version < (4, 7) and not always,
        takes_schema=version >= (4, 5) or always,
        without_thinking=_without_thinking(family, version),
    )


def _without_thinking(family: str, version: Version) -> WithoutThinking:
    if family in ALWAYS_THINKING:
        return "low_effort"
    if version < (5, 0):
        return "omit"
    if version < (5, 5) or family == "haiku":
        return "disabled"
    return "between_tools" if family == "sonnet" else "low_effort"


class _Support(msgspec.Struct):
    supported: bool = False


class _Capabilities(msgspec.Struct):
    image_input: _Support | None = None
    thinking: _Support | None = None


class _Model(msgspec.Struct):
    id: str
    created_at: str | None = None
    capabilities: _Capabilities | None = None


class Page(msgspec.Struct):
    """One page of GET /v1/models."""

    data: list[_Model]
    has_more: bool = False
    last_id: str | None = None

    def infos(self) -> list[ModelInfo]:
        return [_info(model) for model in self.data]


_PAGE = msgspec.json.Decoder(Page)


def read_page(body: bytes) -> Page:
    """Raises BackendProtocolError for what is not a list of models."""
    try:
        return _PAGE.decode(body)
    except (ValueError, RecursionError) as exc:
        error = BackendProtocolError("The service's answer was not understood: it is not a list of models.")
        error.add_note(str(exc))
        raise error from None


def named(model: str) -> ModelInfo:
    """A model of which nothing but its name is known. Every model of this API has seen pictures and tools."""
    return ModelInfo(name=model, capabilities=("completion", "tools", "vision", "thinking"))


def _info(model: _Model) -> ModelInfo:
    told = model.capabilities
    optional = {
        "vision": told is None or told.image_input is None or told.image_input.supported,
        "thinking": told is None or told.thinking is None or told.thinking.supported,
    }
    capabilities = ("completion", "tools", *(name for name, has in optional.items() if has))
    return ModelInfo(name=model.id, modified_at=model.created_at or "", capabilities=capabilities)
