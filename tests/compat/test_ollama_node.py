"""ollama-js: `ollama_node_checks.mjs`, one check a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.compat.node import OLLAMA_JS, Checks, modules
from tests.integration.processes import eventually
from tests.integration.stack import Gateway, Stack

SCRIPT = Path(__file__).with_name("ollama_node_checks.mjs")

RunCheck = Callable[[str], str]


@pytest.fixture
def run_check(stack: Stack, keyed: tuple[Gateway, str], tmp_path: Path) -> RunCheck:
    urls = {"ARRIERO_URL": stack.url, "KEYED_URL": keyed[0].url, "KEY": keyed[1]}
    checks = Checks(SCRIPT, modules("ollama", OLLAMA_JS), urls)
    return lambda check: checks.run(check, tmp_path)


@pytest.mark.parametrize("check", ["chat", "stream", "tools", "generate", "jsonMode", "embed", "models", "errors"])
def test_ollama_js(run_check: RunCheck, check: str) -> None:
    run_check(check)


def test_aborting_a_stream_ends_the_call_upstream(run_check: RunCheck, stack: Stack) -> None:
    before = {call["request_id"] for call in stack.simulator.calls()}
    run_check("abort")
    (job,) = {call["request_id"] for call in stack.simulator.calls()} - before
    eventually(lambda: stack.simulator.was_cancelled(job), 2, "call cancelled")
