"""openai-node: `node_checks.mjs`, one check a test."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from tests.integration.processes import eventually
from tests.integration.stack import Gateway, Stack

OPENAI_NODE = "6.30.1"
"""The last line of versions that runs on Node 20."""
OLDEST_NODE = 20
SCRIPT = Path(__file__).with_name("node_checks.mjs")
CHECKS = [
    *("chat", "stream", "streamHelper", "tools", "streamedTools", "jsonMode"),
    *("embeddings", "completion", "models", "errors"),
]
CHECK_LIMIT_S = 30.0
OFFLINE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH")
"""npm's words for a registry that cannot be reached."""

RunCheck = Callable[[str], str]


def missing(what: str) -> NoReturn:
    """Skip on a machine that lacks something; fail in CI, where it must be there."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def command(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        missing(f"{name} is not installed: openai-node is not tested")
    return found


@pytest.fixture(scope="session")
def node() -> str:
    found = command("node")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").partition(".")[0]) < OLDEST_NODE:
        missing(f"node is {version}, openai-node {OPENAI_NODE} needs {OLDEST_NODE}")
    return found


@pytest.fixture(scope="session")
def node_modules(node: str) -> Path:
    """openai-node in the user's cache, installed there once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "arriero-tests" / f"openai-node-{OPENAI_NODE}"
    manifest = home / "node_modules" / "openai" / "package.json"
    if not manifest.exists():
        home.mkdir(parents=True, exist_ok=True)
        install = [command("npm"), "install", f"openai@{OPENAI_NODE}", "--prefix", str(home)]
        install += ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        done = subprocess.run(install, capture_output=True, text=True, timeout=50, check=False)
        if done.returncode != 0:
            if any(word in done.stderr for word in OFFLINE):
                missing(f"openai-node cannot be fetched: {done.stderr[-300:]}")
            pytest.fail(f"npm could not install openai-node: {done.stdout}{done.stderr}")
    return home / "node_modules"


@pytest.fixture
def run_check(
    node: str, node_modules: Path, stack: Stack, keyed: tuple[Gateway, str], queueless: Gateway, tmp_path: Path
) -> RunCheck:
    """Run one check; returns what it printed, fails with what it complained about."""
    # Beside its modules, so that the script imports as everybody's does.
    (tmp_path / "node_modules").symlink_to(node_modules)
    script = shutil.copy(SCRIPT, tmp_path)
    urls = {"ARRIERO_URL": stack.url, "KEYED_URL": keyed[0].url, "QUEUELESS_URL": queueless.url}

    def run(check: str) -> str:
        done = subprocess.run(
            [node, script, check],
            env={"PATH": os.environ["PATH"], **urls},
            capture_output=True,
            text=True,
            timeout=CHECK_LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, f"{check}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    return run


@pytest.mark.parametrize("check", CHECKS)
def test_openai_node(run_check: RunCheck, check: str) -> None:
    run_check(check)


def test_leaving_a_stream_ends_the_call_upstream(run_check: RunCheck, stack: Stack) -> None:
    job = run_check("abort")
    eventually(lambda: stack.simulator.was_cancelled(job), 2, "call cancelled")
