"""Constructs that may not appear in the product, looked for in the syntax tree, so that comments may speak of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator

import pytest

from tests.house.requirements import ROOT
from tests.house.tree import product_sources

# Loading any of these from Redis or HTTP would run code of whoever wrote there.
UNSAFE_MODULES = frozenset({"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"})
UNSAFE_CALLS = frozenset({"eval", "exec", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system"})


def unsafe_lines(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of every import or call that must not be there."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if _root(alias.name) in UNSAFE_MODULES)
        elif isinstance(node, ast.ImportFrom) and _root(node.module or "") in UNSAFE_MODULES:
            yield node.lineno, str(node.module)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in UNSAFE_CALLS:
            yield node.lineno, ast.unparse(node.func)


# What the log itself writes into every event; a caller's value would be lost without a word.
LOG_FIELDS = frozenset({"service", "level", "timestamp", "part"})


def lost_log_fields(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of every value given to an event that the log overwrites. An event is called `part.happened`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name) and node.args:
            names = [part.value for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant)]
            if any(isinstance(name, str) and re.fullmatch(r"[a-z_]+\.[a-z_]+", name) for name in names):
                yield from ((node.lineno, given.arg) for given in node.keywords if given.arg in LOG_FIELDS)


def found_by(search: Callable[[str], Iterable[tuple[int, str]]]) -> list[str]:
    """What the search finds in the product, with its place."""
    return [
        f"{path}:{line}: {name}"
        for path in product_sources()
        for line, name in search((ROOT / path).read_text(encoding="utf-8"))
    ]


def _root(module: str) -> str:
    return module.partition(".")[0]


def test_the_product_neither_unpickles_nor_evaluates() -> None:
    assert not found_by(unsafe_lines)


def test_no_value_given_to_a_log_event_is_lost() -> None:
    assert not found_by(lost_log_fields)
    calls = 'log.info("a.b", service=1)\nevent("a.up" if up else "a.down", service=1)\nService("a", service=1)'
    assert [line for line, _ in lost_log_fields(calls)] == [1, 2]


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import os, marshal as m",
        "from pickle import loads",
        "def f():\n    import cloudpickle.x",
        "eval('1')",
        "yaml.load(text)",
    ],
)
def test_the_search_finds(source: str) -> None:
    assert list(unsafe_lines(source))


def test_the_search_ignores_words_in_text() -> None:
    assert not list(unsafe_lines('"""Not pickle; eval() neither."""\nyaml.safe_load(text)\nredis.eval(script)\n'))
