"""docs/operations.md: its commands, run on a live stack, print what it shows.

python -m tests.arriero.test_operations      writes the outputs in the document anew
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.arriero.console_blocks import Ids, arguments, matches, rewritten, shape, shown
from tests.arriero.live import live_stack, run
from tests.house.redis_server import free_port
from tests.house.requirements import ROOT
from tests.integration.processes import clean_environment, eventually
from tests.integration.stack import Stack

DOCUMENT = ROOT / "docs" / "operations.md"


VARYING = ("arriero monitor alerts", "arriero monitor advice")
"""Commands whose answers depend on the machine; they must print something."""
MACHINE = re.compile(r"(Processor|Memory|Swap|Disk|Network|GPU|Model|Unknown|host|(ok|warn) +Docker.*) ")
"""How lines begin that another machine may have more or fewer of."""
READING = (
    "health",
    "doctor",
    "top",
    "queue stats",
    "jobs list",
    "models list",
    "models show llama3.2",
    "models operations",
    "models cleanup --dry-run",
    "monitor report",
    "monitor alerts",
    "monitor advice",
    "circuits status",
    "dlq list",
    "config check",
)


# In the order of the file: the first only looks, the second finds the stack as the document's author did.
@pytest.fixture(scope="module")
def live() -> Iterator[Stack]:
    with live_stack() as stack:
        yield stack


@pytest.mark.req("S1-38", "S1-40", "S1-66", "S1-67", "S1-68")
@pytest.mark.timeout(120)
def test_what_shows_something_shows_it_as_json(live: Stack) -> None:
    with ThreadPoolExecutor(3) as pool:
        done = dict(zip(READING, pool.map(lambda words: live.run(*words.split(), "--json"), READING), strict=True))
    for words, result in done.items():
        assert result.stdout, f"{words}: {result.stderr}"
        assert "\x1b" not in result.stdout
    answers = {words: json.loads(result.stdout) for words, result in done.items()}
    assert {one["service"] for one in answers["health"]["services"]} == {"gateway", "worker", "manager", "monitor"}
    assert {model["name"] for model in answers["models list"]["models"]} >= {"llama3.2:latest", "mistral:latest"}
    assert answers["models show llama3.2"]["calls"] >= 3
    assert answers["models show llama3.2"]["score_parts"]
    assert {kept["model"] for kept in answers["models cleanup --dry-run"]["kept"]} >= {"mistral:latest"}
    assert answers["monitor report"]["queue"]["waiting"] == 0
    assert answers["queue stats"]["workers"]
    assert answers["top"]["queue"]["workers"]
    assert answers["top"]["models"]["models"]
    assert answers["top"]["readings"]["host"]["name"]
    assert answers["dlq list"]["dead_letters"]
    assert answers["config check"]["faults"] == []
    assert {finding["see"].partition("#")[0] for finding in answers["doctor"]} == {"docs/troubleshooting.md"}


@pytest.mark.req("S1-38", "S1-39", "S1-40", "S1-49", "S1-67", "S1-68", "S1-69")
@pytest.mark.timeout(300)
def test_every_command_prints_what_the_document_shows(live: Stack) -> None:
    ids, wrong = Ids(), []
    for command in shown(DOCUMENT.read_text(encoding="utf-8")):
        found = run(live, arguments(ids.replace(command.command))).rstrip().splitlines()
        expected = "\n".join(command.output).rstrip().splitlines()
        ids.learn(expected, found)
        if command.command in VARYING:
            assert found, command.command
        elif not matches(_anywhere(expected), _anywhere(found)):
            told = (f"line {command.line}: $ {command.command}", _shapes(expected), "found:", _shapes(found))
            wrong.append("\n".join(told))
    assert not wrong, "\n\n".join(wrong)
    # The last command revoked the only key; the daemons take a moment to notice.
    eventually(lambda: live.run("models", "list").returncode == 0, 20, "open to all again")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("chat hello --priority urgent", "priority"),
        ("jobs list --status bogus", "status"),
        ("jobs list --cursor zz", "cursor"),
        ("dlq list --cursor zz", "cursor"),
    ],
)
def test_wrong_usage_has_the_status_of_the_document(live: Stack, words: str, named: str) -> None:
    done = live.run(*words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert named in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.req("S1-39", "S1-41")
@pytest.mark.timeout(120)
def test_changes_to_models_end_with_a_status_for_scripts(live: Stack) -> None:
    pulled = live.run("models", "pull", "phi3", "--json")
    assert json.loads(pulled.stdout)["status"] == "succeeded"
    assert "pull phi3 on all hosts: pulling" in pulled.stderr, "progress, and not where the JSON is"
    ordered = json.loads(live.run("models", "pull", "slow-one", "--no-wait", "--json").stdout)
    assert ordered["finished_at"] is None
    cancelled = live.run("models", "cancel", ordered["id"])
    assert cancelled.returncode == 0, cancelled.stderr
    assert live.run("models", "pull", "no-such-model-anywhere").returncode == 1
    nobody = live.run("models", "show", "nobody")
    assert nobody.returncode == 1
    assert "models pull" in nobody.stderr
    wrong = live.run("models", "load", "not a name!")
    assert wrong.returncode == 2
    assert "model" in wrong.stderr
    preloaded = json.loads(live.run("models", "preload", "--json").stdout)
    assert preloaded["not_installed"] == []
    assert live.run("models", "preload", "nobody").returncode == 1


@pytest.mark.req("S1-38", "S1-69")
@pytest.mark.timeout(120)
def test_what_changes_something_says_so_as_json_too(live: Stack) -> None:
    changes = {
        "models load mistral": "succeeded",
        "models pin mistral": "true",
        "models unpin mistral": "false",
        "models unload mistral": "succeeded",
        "queue clear --yes": "0",
    }
    for words, said in changes.items():
        done = live.run(*words.split(), "--json")
        assert done.returncode == 0, f"{words}: {done.stderr}"
        assert json.loads(done.stdout), words
        assert said in done.stdout, f"{words}: {done.stdout}"


@pytest.mark.timeout(120)
def test_who_does_not_answer_is_named_with_the_remedy(live: Stack) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    for words in ("models list", "monitor report"):
        service = "manager" if words.startswith("models") else "monitor"
        done = live.run(*words.split(), "--url", nowhere)
        assert done.returncode == 69
        assert f"make {service}" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    frame = live.run("top", "--once", REDIS_URL=f"redis://127.0.0.1:{free_port()}/9")
    assert frame.returncode == 69
    assert "Redis does not answer" in frame.stdout
    assert "llama3.2" in frame.stdout, "the rest is shown all the same"


def test_top_lives_on_a_terminal_until_it_is_interrupted(live: Stack) -> None:
    master, slave = pty.openpty()
    environment = live.environment() | {"TERM": "xterm", "COLUMNS": "60", "LINES": "40"}
    command = [sys.executable, "-m", "arriero", "top", "--interval", "0.2"]
    process = subprocess.Popen(
        command, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    seen = b""
    try:
        while seen.count(b"waiting") < 2:  # a second frame
            seen += os.read(master, 65536)
        process.send_signal(signal.SIGINT)
        while process.poll() is None:
            with contextlib.suppress(OSError):  # its end has gone
                seen += os.read(master, 65536)
        assert process.returncode == 0, seen[-2000:]
    finally:
        process.kill()
        process.wait()
        os.close(master)
    assert b"llama3.2" in seen


def test_the_shell_completes_commands() -> None:
    script = Path(sys.executable).with_name("arriero")
    words = {"COMP_WORDS": "arriero models cl", "COMP_CWORD": "2", "_ARRIERO_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [script], env=clean_environment(words), capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout.split() == ["cleanup"]


def _anywhere(lines: list[str]) -> list[str]:
    """Without what is this machine's own."""
    return [line for line in lines if not MACHINE.match(line)]


def _shapes(lines: list[str]) -> str:
    return "\n".join(f"  {shape(line)}" for line in lines)


def write(document: Path) -> None:
    """The document with fresh outputs."""
    with live_stack() as stack:
        text = rewritten(document.read_text(encoding="utf-8"), lambda typed: run(stack, typed))
    document.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(DOCUMENT)
