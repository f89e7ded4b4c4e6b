"""Commands shown in a document with what they print: run again, and compared by shape.

A block begins with ```console; a line that begins with `$ ` is a command, the lines below it are its output, and a line
`...` stands for any lines. Figures, times and addresses may differ, words may not. Ids stand for those of this run.
"""

from __future__ import annotations

import re
import shlex
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
IDS = re.compile(r"job_[0-9A-Za-z]{16,}|op_[0-9a-f]{20}_\d+|ark_[0-9a-z]{12}_[0-9a-z]{40}|\b[0-9a-f]{12}\b(?!_)")
ANY_LINES = "..."
_SECRET = re.compile(r"(ark_[0-9a-z]{12}_)[0-9a-z]{40}")
HOST_NAME = "server-1"
"""Stands in documents for the machine that their commands ran on."""
_VOLATILE = re.compile(
    rf"""https?://\S+ | /tmp/\S+                              # addresses, places
    | \bllm-worker-\S+ | \b(?:{HOST_NAME}|{re.escape(socket.gethostname())})\b  # who
    | \d{{4}}-\d\d-\d\d[T\ ]\d\d:\d\d:\d\d\S*               # when
    | \d+(?:\.\d+){{3}}(?::\d+)?                          # where
    | (?<![\w.:])\d[\d./]*(?:\s?(?:s|ms|min|h|B|KiB|MiB|GiB|%)(?!\w))?(?![\w:])  # how much
    | (?<!\S)-(?!\S)""",
    re.VERBOSE,
)


@dataclass(slots=True)
class Shown:
    """A command and its output as the document has them; `line` is the command's, from 1."""

    line: int
    command: str
    output: list[str]


def shown(document: str) -> Iterator[Shown]:
    for block in BLOCK.finditer(document):
        first = document.count("\n", 0, block.start()) + 2
        command: Shown | None = None
        for number, line in enumerate(block[1].splitlines(), first):
            if line.startswith("$ "):
                if command:
                    yield command
                command = Shown(number, line.removeprefix("$ "), [])
            elif command:
                command.output.append(line)
        if command:
            yield command


def arguments(command: str) -> list[str]:
    """Without the program's name."""
    return shlex.split(command)[1:]


def shape(line: str) -> str:
    """What stays the same from run to run: figures become one `#`, blanks one blank."""
    text = _VOLATILE.sub("#", IDS.sub("#", line))
    return re.sub(r"(?:#[\s,:()]*)+", "# ", " ".join(text.split())).strip()


def matches(expected: Sequence[str], found: Sequence[str]) -> bool:
    """Whether lines have the expected shapes, with `...` for any number of them."""
    if not expected:
        return not found
    if expected[0] == ANY_LINES:
        return any(matches(expected[1:], found[skipped:]) for skipped in range(len(found) + 1))
    return bool(found) and shape(expected[0]) == shape(found[0]) and matches(expected[1:], found[1:])


class Ids:
    """Which id of this run a document's id stands for, by the place where both were printed."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def learn(self, expected: Sequence[str], found: Sequence[str]) -> None:
        written, real = (IDS.findall("\n".join(lines)) for lines in (expected, found))
        self._known |= dict(zip(written, real, strict=False))

    def replace(self, text: str) -> str:
        return IDS.sub(lambda id_: self._known.get(id_[0], id_[0]), text)


def rewritten(document: str, run: Callable[[Sequence[str]], str]) -> str:
    """The document with the output of a new run; blocks with `...` are left as they are."""
    ids = Ids()

    def renew(block: re.Match[str]) -> str:
        lines: list[str] = []
        for command in shown(block[0]):
            typed = ids.replace(command.command)
            found = run(arguments(typed)).rstrip().splitlines()
            ids.learn(command.output, found)
            found = [_SECRET.sub(rf"\g<1>{'0' * 40}", line) for line in found]
            found = [re.sub(rf"\b{re.escape(socket.gethostname())}\b", HOST_NAME, line) for line in found]
            kept = command.output if ANY_LINES in command.output else found
            lines += [f"$ {typed}", *kept, ""]
        return "```console\n" + "\n".join(lines).rstrip() + "\n```"

    return BLOCK.sub(renew, document)
