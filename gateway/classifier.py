"""What kind of task a request is, for `auto`, and whether it holds private words, to keep those at home. Pure.

The rules, the first that fits:
  1. tools       it offers tools
  2. images      it shows images
  3. short       the user's turns have fewer than SHORT_REQUEST_WORDS words
  4. code        they hold a word of CODE_WORDS
  5. complex     they hold a word of COMPLEX_WORDS
  6. general     anything else
Whether a request is private does not depend on its task: a word of PRIVACY_WORDS anywhere in it is enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from shared.wire.canonical import ChatRequest, CompletionRequest, EmbeddingRequest, Request

_to_json = msgspec.json.Encoder().encode
_APART = "\0"
"""Between texts that are searched as one: it is in no phrase and ends every word, so nothing is found across it."""


class Task(StrEnum):
    """What a request is about, as far as routing cares."""

    TOOLS = "tools"
    IMAGES = "images"
    SHORT = "short"
    CODE = "code"
    COMPLEX = "complex"
    GENERAL = "general"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a task is told by. `asked` holds the user's own turns."""

    asked: Sequence[str] = ()
    has_tools: bool = False
    has_images: bool = False


class WordList:
    """Words and phrases, found whole and in any case: `phi` is in `a PHI record` and `phi_id`, not in `philosophy`."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = tuple(dict.fromkeys(" ".join(word.lower().split()) for word in words if word.strip()))
        # Plain substrings are found ten times faster than alternatives of a pattern, and most texts hold none of them.
        clues = {max(word.split(), key=len) for word in self.words}
        self._clues = tuple(clue for clue in clues if not any(other in clue for other in clues - {clue}))
        self._whole = re.compile("|".join(map(_whole_word, self.words)) or r"(?!)")

    def found_in(self, text: str) -> bool:
        lowered = text.lower()
        # Every request comes by here, so this loop is not Python's.
        return any(map(lowered.__contains__, self._clues)) and self._whole.search(lowered) is not None

    def found_in_any(self, texts: Iterable[str]) -> bool:
        return self.found_in(_APART.join(texts))


def _whole_word(phrase: str) -> str:
    """A pattern for the phrase. Ends that are letters or digits end a word; those of `c++` and ``` need not."""
    inner = r"\s+".join(map(re.escape, phrase.split()))
    before = r"(?<![^\W_])" if phrase[0].isalnum() else ""
    after = r"(?![^\W_])" if phrase[-1].isalnum() else ""
    return before + inner + after


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What the rules look for."""

    private: WordList
    code: WordList
    complex: WordList
    short_below: int = 20


def facts_of(request: Request) -> Facts:
    """What there is to know of a canonical request's task."""
    match request:
        case ChatRequest():
            return Facts(
                asked=[message.content for message in request.messages if message.role == "user"],
                has_tools=bool(request.tools),
                has_images=any(message.images for message in request.messages),
            )
        case CompletionRequest():
            return Facts(asked=[request.prompt], has_images=bool(request.images))
        case EmbeddingRequest():
            return Facts()


def text_of(request: Request) -> str:
    """Every text that would leave with the request, to be searched as one."""
    if isinstance(request, EmbeddingRequest):
        return _APART.join(request.inputs)
    if isinstance(request, CompletionRequest):
        texts = [request.system, request.prompt, request.suffix]
    else:
        texts = []
        for message in request.messages:
            texts += (message.content, message.thinking, message.tool_name)
            for call in message.tool_calls:
                texts += (call.name, call.arguments)
        if request.tools:
            texts.append(_to_json(request.tools).decode())
    if isinstance(request.format, dict):
        texts.append(_to_json(request.format).decode())
    return _APART.join(texts)


def task_of(facts: Facts, vocabulary: Vocabulary) -> Task:
    """The first of the rules at the head of this module that fits."""
    if facts.has_tools:
        return Task.TOOLS
    if facts.has_images:
        return Task.IMAGES
    if _has_fewer_words(facts.asked, vocabulary.short_below):
        return Task.SHORT
    if vocabulary.code.found_in_any(facts.asked):
        return Task.CODE
    if vocabulary.complex.found_in_any(facts.asked):
        return Task.COMPLEX
    return Task.GENERAL


def _has_fewer_words(texts: Iterable[str], words: int) -> bool:
    left = words
    for text in texts:
        # No more is split off than has to be counted: a text may be a book.
        left -= len(text.split(None, left)[:left])
        if left <= 0:
            return False
    return True
