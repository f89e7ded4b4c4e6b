"""openai-node: `node_checks.mjs`, one check a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.compat.node import OPENAI_NODE, Checks, modules
from tests.integration.processes import eventually
from tests.integration.stack import Gateway, Stack

SCRIPT = Path(__file__).with_name("node_checks.mjs")
CHECKS = [
    *("chat", "stream", "streamHelper", "tools", "streamedTools", "jsonMode"),
    *("embeddings", "completion", "models", "errors"),
]

RunCheck = Callable[[str], str]


@pytest.fixture
def run_check(stack: Stack, keyed: tuple[Gateway, str], queueless: Gateway, tmp_path: Path) -> RunCheck:
    urls = {"ARRIERO_URL": stack.url, "KEYED_URL": keyed[0].url, "QUEUELESS_URL": queueless.url}
    checks = Checks(SCRIPT, modules("openai", OPENAI_NODE), urls)
    return lambda check: checks.run(check, tmp_path)


@pytest.mark.parametrize("check", CHECKS)
def test_openai_node(run_check: RunCheck, check: str) -> None:
    run_check(check)


def test_leaving_a_stream_ends_the_call_upstream(run_check: RunCheck, stack: Stack) -> None:
    job = run_check("abort")
    eventually(lambda: stack.simulator.was_cancelled(job), 2, "call cancelled")
