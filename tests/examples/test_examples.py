"""Every program in examples/ runs on a real stack and prints what the comment at its end says."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.environment import client_python
from tests.house.requirements import ROOT
from tests.integration.processes import clean_environment
from tests.integration.stack import Gateway, Stack

FOLDER = ROOT / "examples"
LONGEST = 60
"""Lines of an example, its output included."""
LIMIT_S = 30.0
ELSEWHERE = ("langchain_chat", "airgap")
"""Those that have tests of their own."""
OUTPUT = re.compile(r"^# Output[^\n]*:\n((?:#[^\n]*\n)+)\Z", re.MULTILINE)
VARYING = re.compile(r"(\.\.\.|(?<![\w.])\d+(?!\.?\w))")
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))


def expected(name: str) -> re.Pattern[str]:
    """What an example prints: `...` stands for anything, one whole number for any other."""
    found = OUTPUT.search((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    assert found is not None, f"{name}.py does not end in what it prints"
    text = "".join(line.removeprefix("#").removeprefix(" ") for line in found[1].splitlines(keepends=True))
    return re.compile("".join(map(_pattern, VARYING.split(text.rstrip()))), re.DOTALL)


def _pattern(part: str) -> str:
    return ".*" if part == "..." else r"\d+" if VARYING.fullmatch(part) else re.escape(part)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    models = ("--models", "llama3.2,mistral,qwen2.5,nomic-embed-text")
    with Stack(simulator=models, FALLBACK_MODELS="llama3.2", OLLAMA_MAX_RETRIES="2") as stack:
        stack.gateway()
        stack.worker()
        stack.wait()
        yield stack


@pytest.fixture(scope="module")
def airgapped(stack: Stack) -> Gateway:
    """A gateway of the same stack in airgap mode, with a key for a cloud service it must not use."""
    gateway = stack.gateway(AIRGAP_MODE="true", OPENROUTER_API_KEY="sk-or-v1-" + "0" * 64)
    gateway.wait()
    return gateway


def printed(name: str, url: str, folder: Path, python: str = sys.executable) -> str:
    """What an example prints, started in another folder with no more than the gateway's address."""
    done = subprocess.run(
        [python, str(FOLDER / f"{name}.py")],
        env=clean_environment({"ARRIERO_URL": url}),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.rstrip()


def says_what_it_should(name: str, said: str) -> None:
    assert expected(name).fullmatch(said), said


@pytest.mark.req("S3-41")
@pytest.mark.parametrize("name", [name for name in NAMES if name not in (*ELSEWHERE, "fallback")])
def test_an_example(stack: Stack, name: str, tmp_path: Path) -> None:
    says_what_it_should(name, printed(name, stack.url, tmp_path))


@pytest.mark.req("S3-41")
def test_the_one_about_fallback_while_a_model_is_broken(stack: Stack, tmp_path: Path) -> None:
    stack.simulator.misbehave("status", status=500, match={"model": "mistral"})
    said = printed("fallback", stack.url, tmp_path)
    stack.simulator.behave()
    says_what_it_should("fallback", said)


@pytest.mark.req("S3-41")
def test_the_one_about_airgap_mode(airgapped: Gateway, tmp_path: Path) -> None:
    says_what_it_should("airgap", printed("airgap", airgapped.url, tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_one_with_langchain(stack: Stack, tmp_path: Path) -> None:
    said = printed("langchain_chat", stack.url, tmp_path, client_python())
    says_what_it_should("langchain_chat", said)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_short_told_of_and_begins_with_what_it_shows(name: str) -> None:
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) < LONGEST
    assert text.startswith('"""')
    assert f"[{name}.py]({name}.py)" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_the_wanted_ones_are_there() -> None:
    """S3-41 and what users asked for first."""
    wanted = {"basic", "explicit_provider", "tools", "classification", "health", "airgap", "fallback"}
    assert wanted | {"stream_openai", "batch", "resume_stream", "long_poll", "langchain_chat"} <= set(NAMES)
