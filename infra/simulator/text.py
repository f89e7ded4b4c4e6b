"""Simulated text and its tokens. A token is at most ten letters with the space before them, or one sign."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

_TOKEN = re.compile(r"\s*(?:\w{1,10}|[^\w\s])|\s+")
_WORD = re.compile(r"[^\W_]+")
_DIRECTIVE = re.compile(r"\[tokens=(\d{1,6})\]")
ECHOED_WORDS = 8
SHORTEST, LONGEST = 40, 60
MOST_TOKENS = 100_000
# fmt: off
_FILLER = (
    "llama", "walks", "along", "a", "narrow", "path", "above", "the", "valley", "while", "morning", "light", "finds",
    "stones", "and", "grass", "each", "step", "is", "slow", "but", "sure", "its", "load", "of", "salt", "wool",
    "maize", "sits", "well", "tied", "with", "rope", "near", "water", "they", "rest", "then", "climb", "once", "more",
    "past", "old", "walls", "toward", "far", "snow", "wind", "comes", "from", "east", "bells", "ring", "softly", "no",
    "model", "ran", "for", "this", "text", "so", "read", "it", "as", "a", "sign", "that", "works",
)
# fmt: on


def tokenise(text: str) -> list[str]:
    """Tokens that join to `text` again."""
    return _TOKEN.findall(text)


def count_tokens(text: str) -> int:
    return len(_TOKEN.findall(text))


def asked_length(prompt: str) -> int | None:
    """N of a directive `[tokens=N]` in the prompt, at most 100000."""
    match = _DIRECTIVE.search(prompt)
    return max(1, min(int(match[1]), MOST_TOKENS)) if match else None


def echo(prompt: str) -> str:
    """The first words of a prompt, to show whose answer this is."""
    words = _WORD.findall(_DIRECTIVE.sub(" ", prompt[:2000]))
    return " ".join(words[:ECHOED_WORDS])


def compose(opening: str, length: int, draw: random.Random) -> list[str]:
    """`length` tokens: the opening, then filler sentences, and a full stop at the end."""
    tokens = tokenise(opening)[: length - 1]
    missing = length - 1 - len(tokens)
    start_sentence = True
    for word in draw.choices(_FILLER, k=max(0, missing)):
        if not start_sentence and len(tokens) % 11 == 0:
            tokens.append(".")
            start_sentence = True
            continue
        tokens.append(f" {word.capitalize() if start_sentence else word}")
        start_sentence = False
    tokens.append(".")
    return tokens


def cut_at_stop(tokens: Sequence[str], stops: Sequence[str]) -> list[str] | None:
    """The tokens before the first stop text; None when there is none."""
    text = "".join(tokens)
    found = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    return tokenise(text[: min(found)]) if found else None
