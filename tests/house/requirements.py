"""The requirements as data, and which tests say that they show them.

Marks are read from the sources, not by importing them, so that `docs/requirements.md` can be checked in a second.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).with_name("requirements.txt")


@dataclass(slots=True, frozen=True)
class Requirement:
    """One line of the data file. `section` is the document it comes from."""

    id: str
    statement: str
    section: str

    @property
    def counts(self) -> bool:
        """Whether it is one of the 330; the design card and the decisions repeat or explain those."""
        return self.id.startswith("S")

    @property
    def is_decision(self) -> bool:
        return self.id.startswith("C")


@cache
def requirements() -> tuple[Requirement, ...]:
    """Every line of the data file, in its order.

    Raises ValueError for a line that is not `id | statement`, or an id given twice.
    """
    section, found = "", dict[str, Requirement]()
    for line in DATA.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            section = line.removeprefix("# ")
        elif line.strip():
            identifier, bar, statement = line.partition(" | ")
            if not bar or identifier in found:
                raise ValueError(f"{DATA.name}: not a new `id | statement`: {line!r}")
            found[identifier] = Requirement(identifier, statement, section)
    return tuple(found.values())


@cache
def known_ids() -> frozenset[str]:
    """Ids that a test may name."""
    return frozenset(requirement.id for requirement in requirements())


def marked_tests(tests: Path = ROOT / "tests") -> dict[str, list[str]]:
    """Requirement id -> `path::Class::test` of the tests marked with it, sorted; ids are not checked."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted(tests.rglob("test_*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"), str(path))
        for name, identifier in _marks_of_module(module):
            found[identifier].add(f"{path.relative_to(tests.parent).as_posix()}::{name}")
    return {identifier: sorted(names) for identifier, names in found.items()}


def _marks_of_module(module: ast.Module) -> Iterator[tuple[str, str]]:
    everywhere = [identifier for node in module.body if _assigns_pytestmark(node) for identifier in _ids_in(node)]
    yield from _marks_of_body(module.body, "", everywhere)


def _marks_of_body(body: list[ast.stmt], prefix: str, inherited: list[str]) -> Iterator[tuple[str, str]]:
    for node in body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        ids = inherited + [identifier for decorator in node.decorator_list for identifier in _ids_in(decorator)]
        if isinstance(node, ast.ClassDef):
            yield from _marks_of_body(node.body, f"{prefix}{node.name}::", ids)
        elif node.name.startswith("test"):
            yield from ((prefix + node.name, identifier) for identifier in ids)


def _assigns_pytestmark(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and any(
        isinstance(target, ast.Name) and target.id == "pytestmark" for target in node.targets
    )


def _ids_in(node: ast.AST) -> Iterator[str]:
    """Ids of every `...mark.req("...")` under `node`, parametrised cases included."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("mark.req"):
            for argument in call.args:
                if not isinstance(argument, ast.Constant) or not isinstance(argument.value, str):
                    raise ValueError(f"line {call.lineno}: write the ids in `mark.req(...)` as plain strings")
                yield argument.value
