"""What the programs share: the questions, what a right answer looks like, and the line of JSON at the end.

Only the standard library. ARRIERO_URL says where the gateway is.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence

CHAT_MODEL, EMBEDDING_MODEL, UNKNOWN_MODEL = "llama3.2", "nomic-embed-text", "llama3.3"
QUESTION = "Why do llamas hum?"
WEATHER_QUESTION = "Ask get_weather about Lima"
WEATHER = "19 degrees and fog"
TEXTS = ("a llama on a mountain", "an invoice")
DIMENSIONS = 768
FEWEST_PIECES = 4
"""Of a stream; an answer in one or two pieces did not stream."""

Check = Callable[[], object]


def gateway_url() -> str:
    return os.environ["ARRIERO_URL"]


def run(checks: Mapping[str, Check]) -> None:
    """Make each check and print how all of them ended: name -> `ok`, and `said`, its answer or its failure.

    A check fails by raising, whatever it raises.
    """
    outcomes: dict[str, dict[str, object]] = {}
    for name, check in checks.items():
        try:
            outcomes[name] = {"ok": True, "said": str(check())}
        except Exception:
            outcomes[name] = {"ok": False, "said": traceback.format_exc()}
    sys.stdout.write("\n" + json.dumps(outcomes) + "\n")


def answers_the_question(text: str) -> str:
    if QUESTION.rstrip("?") not in text:
        raise AssertionError(f"not an answer to the question: {text!r}")
    return text


def streamed(pieces: Sequence[str]) -> str:
    if len([piece for piece in pieces if piece]) < FEWEST_PIECES:
        raise AssertionError(f"too few pieces for a stream: {pieces!r}")
    return answers_the_question("".join(pieces))


def asked_for_the_weather(name: str, arguments: Mapping[str, object]) -> None:
    if name != "get_weather" or not isinstance(arguments.get("city"), str):
        raise AssertionError(f"not the call that was asked for: {name}({arguments!r})")


def used_the_weather(text: str) -> str:
    if WEATHER not in text:
        raise AssertionError(f"the tool's result is not used: {text!r}")
    return text


def vectors_of_both(vectors: Iterable[Sequence[float]]) -> list[int]:
    lengths = [len(vector) for vector in vectors]
    if lengths != [DIMENSIONS] * len(TEXTS):
        raise AssertionError(f"vectors of these lengths: {lengths}")
    return lengths


def refusal(call: Check) -> str:
    """What the client's own error says. Raises AssertionError when there is none."""
    try:
        answer = call()
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}"
    raise AssertionError(f"no error, but {answer!r}")
