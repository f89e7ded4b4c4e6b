"""One form of a request to continue a text or a chat, whichever face it came through."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from infra.simulator.catalogue import Model
from infra.simulator.options import LoadOptions

Think = bool | Literal["low", "medium", "high", "max"] | None


@dataclass(slots=True)
class Turn:
    """A message; `images` counts them."""

    role: str
    content: str
    images: int = 0
    tool_calls: list[Any] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class TextRequest:
    """What to generate and how. `top_logprobs` is None when no logprobs are wanted."""

    asked_model: str
    model: Model
    turns: list[Turn]
    stream: bool
    load: LoadOptions
    options: dict[str, Any]
    keep_alive_s: float | None = None
    tools: list[dict[str, Any]] = field(default_factory=list)
    format: Literal["json"] | dict[str, Any] | None = None
    think: Think = None
    top_logprobs: int | None = None
    truncate: bool = True
    is_chat: bool = True

    @property
    def prompt(self) -> str:
        """The last user message."""
        return next((turn.content for turn in reversed(self.turns) if turn.role == "user"), "")

    @property
    def images(self) -> int:
        return sum(turn.images for turn in self.turns)
