"""README.md does what it says: every command and program in it is run, at the test's own addresses."""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.house.requirements import ROOT
from tests.integration.processes import clean_environment, eventually
from tests.integration.stack import Stack

LIMIT_S = 30.0
COMMANDS = ("curl", "arriero", "kill")
"""What the blocks may start. Anything else fails here, until someone has thought about how to run it safely."""
# Other languages, `sh` among them for what needs a container engine, are not run.
_BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_JOB_ID = re.compile(r"job_[0-9A-Za-z]{16,}")


@dataclass(frozen=True)
class Block:
    line: int
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """The lines of a shell block, continued ones joined, trailing comments dropped."""
        joined = self.text.replace("\\\n", " ").splitlines()
        return [bare for line in joined if (bare := re.sub(r"\s{2,}#.*$", "", line).strip())]


def blocks() -> list[Block]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [Block(text.count("\n", 0, found.start()) + 1, found[1], found[2]) for found in _BLOCK.finditer(text)]


BLOCKS = blocks()
SHELL_BLOCKS = [block for block in BLOCKS if block.language == "bash"]
PROGRAMS = [block for block in BLOCKS if block.language == "python"]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack() as stack:
        stack.gateway()
        stack.worker()
        stack.daemon("manager")
        stack.daemon("monitor")
        stack.wait()
        yield stack


class Shell:
    """Runs the lines of one block, as someone would who types them one after the other."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._job = ""
        self._background: list[subprocess.Popen[str]] = []
        # Keys of their own shard: on the blocks' one, the first key would shut out every other block.
        self._keys = {"QUEUE_SHARD": "readme-keys"}

    def run(self, line: str) -> None:
        """Run one line. Raises AssertionError when it fails, or says nothing."""
        in_background = line.endswith("&")
        arguments = shlex.split(self._adapted(line.removesuffix("&")))
        started = self._start(arguments, self._keys if "keys" in arguments else {})
        if in_background:
            self._background.append(started)
            before = len(self._stack.simulator.calls())
            eventually(lambda: len(self._stack.simulator.calls()) > before, 5, f"{line} has reached the model")
            return
        said = self._outcome(started, line)
        assert said or "kill" in arguments, f"no output: {line}"
        self._job = (_JOB_ID.findall(said) or [self._job])[-1]
        if "kill" in arguments:
            # `make run` starts another; here we do.
            self._stack.worker()

    def finish(self) -> None:
        """Wait for what runs in the background; it must end well, too."""
        for started in self._background:
            assert self._outcome(started, "in the background")

    def end(self) -> None:
        for started in self._background:
            started.kill()
            started.communicate()

    def _adapted(self, line: str) -> str:
        """The line for this stack: its addresses, its worker's process and no other."""
        adapted = line.replace("http://127.0.0.1:8000", self._stack.url).replace(
            ".venv/bin/arriero", f"{sys.executable} -m arriero"
        )
        # The reader takes it from what `make run` prints.
        adapted = adapted.replace("<pid of worker-1>", str(self._stack.workers[-1].pid))
        if "<id>" in adapted:
            assert self._job, f"no job was submitted before: {line}"
            adapted = adapted.replace("<id>", self._job)
        first = Path(shlex.split(adapted)[0])
        name = "arriero" if str(first) == sys.executable else first.name
        assert name in COMMANDS, f"README.md starts {name}: teach this test how to run it"
        return adapted

    def _start(self, arguments: list[str], settings: dict[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            arguments,
            cwd=self._folder,
            env=self._stack.environment(ARRIERO_STATE_DIR=str(self._folder), **settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _outcome(self, started: subprocess.Popen[str], line: str) -> str:
        try:
            said, complaint = started.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            started.kill()
            said, complaint = started.communicate()
            raise AssertionError(f"not within {LIMIT_S:g} s: {line}\n{said}{complaint}") from None
        assert started.returncode == 0, f"{line}\n{said}{complaint}"
        assert '"error":{' not in said, f"{line}\n{said}"
        return said


@contextlib.contextmanager
def shell(stack: Stack, folder: Path) -> Iterator[Shell]:
    shell = Shell(stack, folder)
    try:
        yield shell
        shell.finish()
    finally:
        shell.end()


def test_there_is_something_to_try() -> None:
    assert PROGRAMS
    assert {Path(block.commands[0].split()[0]).name for block in SHELL_BLOCKS} >= {"curl", "arriero"}


@pytest.mark.parametrize("block", SHELL_BLOCKS, ids=lambda block: f"line-{block.line}")
def test_the_commands_work(stack: Stack, block: Block, tmp_path: Path) -> None:
    with shell(stack, tmp_path) as typing:
        for line in block.commands:
            typing.run(line)


@pytest.mark.parametrize("block", PROGRAMS, ids=lambda block: f"line-{block.line}")
def test_the_programs_work(stack: Stack, block: Block, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(block.text.replace("http://127.0.0.1:8000", stack.url), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(program)],
        env=clean_environment(stack.settings(ARRIERO_URL=stack.url)),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Why do llamas hum" in done.stdout
