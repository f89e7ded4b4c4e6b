"""The services are asynchronous throughout: nothing that waits may hold up their loops."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.house.requirements import ROOT
from tests.house.tree import product_sources

SERVICES = ("gateway", "manager", "monitor", "shared", "worker")
BLOCKING_MODULES = frozenset(
    {"requests", "urllib.request", "http.client", "urllib3", "smtplib", "ftplib", "sqlite3", "psycopg2", "socketserver"}
)
"""Clients that wait without letting others run."""
BLOCKING_NAMES = frozenset(
    {
        *("time.sleep", "httpx.get", "httpx.post", "httpx.request", "httpx.stream", "httpx.Client", "httpx.put"),
        *("redis.Redis", "redis.from_url", "redis.StrictRedis", "subprocess.run", "subprocess.check_output"),
        *("os.system", "socket.create_connection", "socket.gethostbyname", "socket.getaddrinfo"),
    }
)


def blocking_lines(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of each import or use of something that blocks."""
    tree = ast.parse(source)
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                known[alias.asname or alias.name] = alias.name
                if alias.name in BLOCKING_MODULES:
                    yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module in BLOCKING_MODULES:
                yield node.lineno, node.module
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                known[alias.asname or alias.name] = whole
                if whole in BLOCKING_NAMES or whole in BLOCKING_MODULES:
                    yield node.lineno, whole
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            whole = f"{known.get(node.value.id, '')}.{node.attr}"
            if whole in BLOCKING_NAMES:
                yield node.lineno, whole


@pytest.mark.req("S3-48")
def test_no_service_uses_a_client_that_blocks() -> None:
    found = [
        f"{path}:{line}: {name}"
        for path in product_sources()
        if path.parts[0] in SERVICES
        for line, name in blocking_lines((ROOT / path).read_text(encoding="utf-8"))
    ]
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "import requests",
        "from urllib.request import urlopen",
        "from time import sleep",
        "import time as t\nt.sleep(1)",
        "import httpx\nhttpx.get('x')",
        "from redis import Redis",
        "from http import client",
    ],
)
def test_the_search_finds(source: str) -> None:
    assert list(blocking_lines(source))


@pytest.mark.parametrize("source", ["from redis.asyncio import Redis", "import asyncio\nasyncio.sleep(1)"])
def test_the_search_passes_over_what_does_not_block(source: str) -> None:
    assert not list(blocking_lines(source))


@pytest.mark.req("S3-48")
def test_no_coroutine_calls_what_blocks() -> None:
    """ruff's ASYNC rules: sleeping, opening files, waiting for processes or HTTP within `async def`."""
    # ASYNC109 is about names of parameters; pyproject.toml says why it is off.
    rules = ("--select", "ASYNC", "--ignore", "ASYNC109", "--no-cache")
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", *rules, *SERVICES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
