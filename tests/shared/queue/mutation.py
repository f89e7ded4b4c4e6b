"""Mutants of the scripts: every line marked `-- guard` with its condition switched off, on, or short of a part."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

from tests.shared.queue.clocked import clocked_sources

_CONDITION = re.compile(r"^(?P<head>\s*(?:else)?if )(?P<test>.+?)(?P<tail> then\b.*)$")
_ABSENCE = re.compile(r"'NOMKSTREAM', ")


@dataclass(frozen=True)
class Mutant:
    """`sources` are whole scripts with one guard line replaced, in every script that includes the line."""

    name: str
    sources: dict[str, str]
    touched: frozenset[str]


def split(condition: str, word: str) -> list[str]:
    """The parts of a condition joined by `word` (and, or) outside of brackets and quotes."""
    parts, depth, quoted, start = [], 0, False, 0
    for at, char in enumerate(condition):
        quoted ^= char == "'"
        depth += (char in "([{") - (char in ")]}") if not quoted else 0
        joint = f" {word} "
        if not depth and not quoted and condition.startswith(joint, at):
            parts.append(condition[start:at])
            start = at + len(joint)
    return [*parts, condition[start:]]


def mutations(line: str) -> list[str]:
    """The lines to put in a guard line's place. Raises ValueError for a guard of a shape not known here."""
    found = _CONDITION.match(line)
    if found is None:
        if _ABSENCE.search(line):
            return [_ABSENCE.sub("", line)]
        raise ValueError(f"a guard that is neither a condition nor an option: {line.strip()}")
    test = found["test"]
    variants = ["true", "false"]
    for word in ("or", "and"):
        parts = split(test, word)
        if len(parts) > 1:
            variants += [f" {word} ".join(p for p in parts if p is not part) for part in parts]
            break
    return [f"{found['head']}{variant}{found['tail']}" for variant in variants]


@dataclass(frozen=True)
class Guard:
    """A marked line, and the scripts it stands in: one, or all that include its file."""

    line: str
    scripts: frozenset[str]


def guards() -> list[Guard]:
    """Every guard there is; the same words in two files are two guards."""
    texts = clocked_sources()
    shared = "".join(entry.read_text() for entry in (files("shared.queue") / "lua" / "includes").iterdir())
    found: dict[Guard, None] = {}
    for name, text in texts.items():
        for line in text.splitlines():
            if "-- guard" in line:
                where = [n for n, t in texts.items() if line in t.splitlines()] if line in shared else [name]
                found[Guard(line, frozenset(where))] = None
    return list(found)


def without(guard: Guard, line: str) -> dict[str, str]:
    """All scripts, with `line` in the guard's place."""
    sources = clocked_sources()
    for name in guard.scripts:
        sources[name] = "\n".join(line if each == guard.line else each for each in sources[name].splitlines())
    return sources


def mutants() -> Iterator[Mutant]:
    for guard in guards():
        for line in mutations(guard.line):
            where = "+".join(sorted(guard.scripts))
            name = f"{where}: {guard.line.strip()}  =>  {line.split('-- guard')[0].strip()}"
            yield Mutant(name, without(guard, line), guard.scripts)
