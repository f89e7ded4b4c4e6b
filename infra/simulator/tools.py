"""Which of the offered tools a prompt asks for, and a call that fits the tool's schema."""

from __future__ import annotations

import random
import re
import string
from dataclasses import dataclass
from typing import Any

from infra.simulator.json_schema import Sampler

_WORD = re.compile(r"[a-z0-9]+")
# fmt: off
_IDLE_WORDS = frozenset({
    "about", "after", "also", "and", "for", "from", "get", "given", "have", "into", "only", "over", "return",
    "returns", "some", "that", "the", "their", "them", "then", "there", "these", "this", "tool", "used", "user",
    "what", "when", "where", "which", "will", "with", "your",
})
# fmt: on
SHORTEST_TELLING_WORD = 4
_ID_LETTERS = string.ascii_lowercase + string.digits


@dataclass(frozen=True, slots=True)
class ToolCall:
    """`id` is `call_` and eight letters, as Ollama's."""

    id: str
    index: int
    name: str
    arguments: dict[str, Any]

    def native(self) -> dict[str, Any]:
        return {"id": self.id, "function": {"index": self.index, "name": self.name, "arguments": self.arguments}}


def choose_calls(tools: list[dict[str, Any]], prompt: str, draw: random.Random) -> list[ToolCall]:
    """One call for each tool that the prompt names; without any, the tool whose description shares most words with it.

    Raises SchemaError when a tool's parameters cannot be followed.
    """
    functions = [
        function for tool in tools if isinstance(function := tool.get("function"), dict) and function.get("name")
    ]
    chosen = [function for function in functions if _is_named(function["name"], prompt)]
    if not chosen:
        words = set(_WORD.findall(prompt.lower()))
        overlaps = [(len(words & _telling_words(function)), function) for function in functions]
        best, function = max(overlaps, key=lambda pair: pair[0], default=(0, {}))
        chosen = [function] if best else []
    return [
        ToolCall(
            id="call_" + "".join(draw.choices(_ID_LETTERS, k=8)),
            index=index,
            name=function["name"],
            arguments=_arguments(function, prompt, draw),
        )
        for index, function in enumerate(chosen)
    ]


def _is_named(name: str, prompt: str) -> bool:
    lowered = prompt.lower()
    return name.lower() in lowered or name.lower().replace("_", " ") in lowered


def _telling_words(function: dict[str, Any]) -> set[str]:
    words = _WORD.findall(str(function.get("description") or "").lower())
    return {word for word in words if len(word) >= SHORTEST_TELLING_WORD and word not in _IDLE_WORDS}


def _arguments(function: dict[str, Any], prompt: str, draw: random.Random) -> dict[str, Any]:
    schema = function.get("parameters")
    if not isinstance(schema, dict) or not schema:
        return {}
    # Names are what prompts ask about (Lima, Quito): a capitalised word inside the prompt is the best guess.
    names = re.findall(r"(?<=\w\s)[A-Z]\w+", prompt)
    words = names or [word for word in _WORD.findall(prompt.lower()) if len(word) >= SHORTEST_TELLING_WORD]
    value = Sampler({"type": "object", **schema}, draw, words).value()
    return value if isinstance(value, dict) else {}
