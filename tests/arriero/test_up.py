"""`arriero up` as people run it: real processes, a real Redis, the simulator, a real terminal signal."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from arriero import Client, Job
from tests.house.redis_server import free_port
from tests.integration.stack import Simulator

pytestmark = pytest.mark.timeout(180)

PROJECT = Path(__file__).resolve().parents[2]
UP_WITHIN_S = 45.0
LONG_PROMPT = "Tell a long story about llamas [tokens=200]"
LONG_CHAT = {"model": "llama3.2", "messages": [{"role": "user", "content": LONG_PROMPT}]}


class Stack:
    """`arriero up` out of a directory of its own, so that it can be told from others on this machine."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = directory / ".arriero"
        ours = ("ARRIERO_", "GATEWAY_", "WORKER_", "MANAGER_", "MONITOR_", "REDIS_", "OLLAMA_", "LOG_", "QUEUE_SHARD")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self.environment |= {
            "PYTHONPATH": str(PROJECT),
            "ARRIERO_REDIS_PORT": "0",
            "GATEWAY_PORT": "0",
            "WORKER_PORT": "0",
            "MANAGER_PORT": "0",
            "MONITOR_PORT": "0",
            # Nobody answers there, so the simulator is started, also where a real Ollama runs.
            "OLLAMA_BASE_URLS": f"http://127.0.0.1:{free_port()}",
        }
        self.output = ""
        self.process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def up(self, *arguments: str, **environment: str) -> None:
        self.output = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "arriero", "up", *arguments],
            cwd=self.directory,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self.process,))
        self._reader.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self.output += line

    def wait_for(self, text: str, timeout_s: float = UP_WITHIN_S) -> None:
        until = time.monotonic() + timeout_s
        while text not in self.output:
            assert time.monotonic() < until, f"{text!r} did not come:\n{self.output}"
            assert self.process is not None
            assert self.process.poll() is None or text in self.output, f"it ended before {text!r}:\n{self.output}"
            time.sleep(0.05)

    def ended(self, timeout_s: float) -> int:
        assert self.process is not None
        assert self._reader is not None
        status = self.process.wait(timeout_s)
        self._reader.join(timeout_s)
        return status

    def other_terminal(self) -> dict[str, str]:
        """The environment of somebody who only knows the directory."""
        return {name: value for name, value in self.environment.items() if not name.endswith(("_PORT", "_URLS"))}

    def command(self, *arguments: str, timeout_s: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Another terminal in the same directory."""
        return subprocess.run(
            [sys.executable, "-m", "arriero", *arguments],
            cwd=self.directory,
            env=self.other_terminal(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def processes(self) -> list[psutil.Process]:
        """Every process that works in our directory: `up` itself, its children and grandchildren."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if Path(process.cwd()).is_relative_to(self.directory) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def wait_gone(self, timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        while left := self.processes():
            assert time.monotonic() < until, f"left behind: {[process.cmdline() for process in left]}"
            time.sleep(0.05)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    made = Stack(tmp_path)
    yield made
    for process in made.processes():
        with contextlib.suppress(psutil.NoSuchProcess):  # it was about to end by itself
            process.kill()
    if made.process is not None:
        made.ended(10)


def test_from_nothing_to_an_answer_and_away_again(stack: Stack) -> None:
    began = time.monotonic()
    stack.up("--exit-after-smoke")
    assert stack.ended(UP_WITHIN_S) == 0, stack.output
    assert "Its answers are SIMULATED text" in stack.output
    assert re.search(r"^  > .*imulated answer", stack.output, re.MULTILINE), stack.output
    assert re.search(r"curl -N http://127\.0\.0\.1:\d+/v1/chat/completions", stack.output)
    assert re.search(r"worker-1 pid \d+, worker-2 pid \d+", stack.output)
    assert stack.processes() == []
    assert not (stack.state / "run.json").exists()
    assert time.monotonic() - began < UP_WITHIN_S
    # What is left holds prompts and answers.
    left = [stack.state, *stack.state.rglob("*")]
    assert any(path.suffix == ".aof" for path in left)
    assert [path for path in left if path.stat().st_mode & 0o077] == []


@pytest.mark.req("C2", "S2-18")
def test_ollama_hosts_of_the_services_are_those_of_the_stack(
    stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A simulator stands in for an address under `services:`; a host that answers there is used."""
    port = free_port()
    (stack.directory / "config.yaml").write_text(
        f"llm: {{services: {{ollama: {{urls: ['http://127.0.0.1:{port}']}}, jan: {{enabled: false}}}}}}"
    )
    del stack.environment["OLLAMA_BASE_URLS"]
    stack.up("--exit-after-smoke")
    assert stack.ended(UP_WITHIN_S) == 0, stack.output
    assert f"No Ollama answers at http://127.0.0.1:{port}: starting the simulator" in stack.output

    host = Simulator(tmp_path_factory.mktemp("host"))
    with contextlib.ExitStack() as ending:
        ending.callback(host.stop)
        host.start()
        host.wait()
        (stack.directory / "config.yaml").write_text(f"llm: {{services: {{ollama: {{urls: ['{host.url}/']}}}}}}")
        stack.up("--exit-after-smoke")
        assert stack.ended(UP_WITHIN_S) == 0, stack.output
        assert f"Ollama answers at {host.url}\n" in stack.output
        assert "simulator" not in stack.output


@pytest.mark.req("S2-18")
def test_without_ollama_there_is_no_simulator(stack: Stack) -> None:
    services = {"lab": {"api_format": "openai", "urls": ["http://127.0.0.1:9/v1"], "local": True}}
    stack.up("--no-smoke", OLLAMA_ENABLED="false", SERVICES=json.dumps(services), DEFAULT_SERVICE="lab")
    stack.wait_for("Arriero is up")
    assert "Ollama is switched off" in stack.output
    assert "simulator" not in stack.output


def test_a_day_with_the_stack(stack: Stack) -> None:
    """A second `up`, a second terminal, a lost worker, Ctrl-C in the middle of an answer, and once more."""
    stack.up("--no-smoke")
    stack.wait_for("Arriero is up")
    run = json.loads((stack.state / "run.json").read_text())

    second = stack.command("up")
    assert second.returncode == 1
    assert "already running" in second.stdout
    assert str(run["up_pid"]) in second.stdout

    health = stack.command("health", "--json")
    states = {one["service"]: one["state"] for one in json.loads(health.stdout)["services"]}
    assert states == dict.fromkeys(("gateway", "worker-1", "worker-2", "manager", "monitor"), "ok"), health.stdout

    _lose_the_worker_of_a_running_answer(stack, run["gateway_url"])
    stack.wait_for("ended unexpectedly, killed by SIGKILL: restarting it", 10)
    stack.wait_for("is back, pid", 20)

    with Client(run["gateway_url"]) as client:
        job = client.enqueue("chat.completion", LONG_CHAT)
        _wait_until_running(client, job.id)
    began = time.monotonic()
    os.killpg(os.getpgid(run["up_pid"]), signal.SIGINT)
    assert stack.ended(10) == 0, stack.output
    assert time.monotonic() - began < 5
    assert stack.processes() == []

    stack.up("--no-smoke")
    stack.wait_for("Arriero is up")
    done = stack.command("jobs", "watch", job.id)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "the job that Ctrl-C interrupted was done after the restart"


def _wait_until_running(client: Client, job_id: str) -> Job:
    until = time.monotonic() + 10
    while (job := client.get(job_id)).status != "running":
        assert time.monotonic() < until, job
        time.sleep(0.02)
    return job


def _lose_the_worker_of_a_running_answer(stack: Stack, gateway_url: str) -> None:
    """`arriero chat` goes on with the answer when the worker that gives it is killed in the middle."""
    workers = {w["id"]: w["pid"] for w in json.loads(stack.command("queue", "stats", "--json").stdout)["workers"]}
    assert len(workers) == 2
    chat = subprocess.Popen(
        [sys.executable, "-m", "arriero", "chat", "--json", LONG_PROMPT],
        cwd=stack.directory,
        env=stack.other_terminal(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert chat.stdout is not None
    with chat, Client(gateway_url) as client:
        first = next(event for line in chat.stdout if (event := json.loads(line))["event"] == "chunk")
        assert first["deltas"][0]["content"]
        job = _wait_until_running(client, client.list(limit=1).jobs[0].id)
        os.kill(workers[job.attempts[0]["worker"]], signal.SIGKILL)
        events = [json.loads(line) for line in chat.stdout]
    assert chat.returncode == 0
    ended = events[-1]["job"]
    assert ended["status"] == "succeeded"
    assert [attempt["outcome"] for attempt in ended["attempts"]] == ["crashed", "succeeded"]
    restart = max(i for i, event in enumerate(events) if event["event"] == "restart")
    text = "".join(d.get("content", "") for e in events[restart:] if e["event"] == "chunk" for d in e["deltas"])
    assert text == ended["result"]["choices"][0]["message"]["content"]


def test_kill_nine_leaves_nothing_and_the_next_start_works(stack: Stack) -> None:
    stack.up("--no-smoke", "--workers", "1")
    stack.wait_for("Arriero is up")
    assert stack.process is not None
    assert len(stack.processes()) == 7
    stack.process.kill()
    stack.wait_gone(5)
    stack.ended(5)
    stack.up("--exit-after-smoke", "--workers", "1")
    assert stack.ended(UP_WITHIN_S) == 0, stack.output


def test_ctrl_c_is_over_in_five_seconds_whatever_hangs(stack: Stack) -> None:
    stack.up("--no-smoke", "--workers", "1")
    stack.wait_for("Arriero is up")
    assert stack.process is not None
    for pid in json.loads((stack.state / "run.json").read_text())["pids"].values():
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    stack.process.send_signal(signal.SIGTERM)
    assert stack.ended(10) == 0, stack.output
    assert time.monotonic() - began < 5
    assert stack.processes() == []


def test_a_second_ctrl_c_kills_at_once(stack: Stack) -> None:
    stack.up("--no-smoke", "--workers", "1")
    stack.wait_for("Arriero is up")
    assert stack.process is not None
    for pid in json.loads((stack.state / "run.json").read_text())["pids"].values():
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    stack.process.send_signal(signal.SIGINT)
    stack.wait_for("once more kills at once")
    stack.process.send_signal(signal.SIGINT)
    assert stack.ended(5) == 0, stack.output
    assert time.monotonic() - began < 1.5
    assert stack.processes() == []


def test_ctrl_c_while_it_starts(stack: Stack) -> None:
    stack.up()
    stack.wait_for("starting the simulator")
    assert stack.process is not None
    stack.process.send_signal(signal.SIGINT)
    assert stack.ended(6) == 130, stack.output
    assert stack.processes() == []


def test_a_busy_port_is_one_clear_line_before_anything_starts(stack: Stack) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        stack.up(GATEWAY_PORT=str(port))
        assert stack.ended(15) == 1
    assert f"port {port} (gateway) is in use by python" in stack.output
    assert "GATEWAY_PORT=" in stack.output
    assert len(stack.output.splitlines()) == 1
    assert not (stack.state / "redis").exists()


def test_a_redis_that_is_not_there(stack: Stack) -> None:
    stack.up(REDIS_URL=f"redis://127.0.0.1:{free_port()}/9")
    assert stack.ended(20) == 1
    assert "REDIS_URL does not answer" in stack.output
    assert "Traceback" not in stack.output


def test_a_wrong_setting_is_named(stack: Stack) -> None:
    stack.up(WORKER_CONCURRENCY="many")
    assert stack.ended(UP_WITHIN_S) == 1
    assert "WORKER_CONCURRENCY" in stack.output
    assert "Traceback" not in stack.output
    assert stack.processes() == []
