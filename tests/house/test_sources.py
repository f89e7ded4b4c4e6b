"""Constructs that may not appear in the product, looked for in the syntax tree, so that comments may speak of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator

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


def _root(module: str) -> str:
    return module.partition(".")[0]


def test_the_product_neither_unpickles_nor_evaluates() -> None:
    found = [
        f"{path}:{line}: {name}"
        for path in product_sources()
        for line, name in unsafe_lines((ROOT / path).read_text(encoding="utf-8"))
    ]
    assert not found


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
