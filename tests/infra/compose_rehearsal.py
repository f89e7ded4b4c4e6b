"""`make compose-rehearsal`: builds the image, runs docker-compose.yml for real, and writes docs/results/compose.md.

Three workers behind one service name, Prometheus, the simulator; jobs, and a worker's container killed in the middle
of one. Uses `docker compose`, or else `podman-compose`; needs one of them, and some minutes. Whatever stands under the
project name `arriero` on this machine is stopped, its data with it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from arriero.client import Client
from arriero.models import Job
from tests.chaos.document import commit
from tests.house.requirements import ROOT

PAGE = ROOT / "docs" / "results" / "compose.md"
SERVICES = ("gateway", "worker", "manager", "monitor", "simulator", "prometheus")
BASE_IMAGE = "docker.io/library/python:3.11-slim-bookworm"
IMAGE_LIMIT_MB = 250
WORKERS = 3
JOBS = 60
LONG_ANSWER = "Count the stones of the road. [tokens=3000]"
"""About 15 s at the simulator's 200 tokens a second: long enough to be killed in its middle."""
MODEL = "llama3.2"
ASK_PROMETHEUS = """
import sys, urllib.parse, urllib.request
query = urllib.parse.quote(sys.argv[1])
print(urllib.request.urlopen("http://prometheus:9090/api/v1/query?query=" + query).read().decode())
"""


class RehearsalFailed(Exception):
    """What was expected and what was seen instead."""


@dataclass(slots=True)
class Transcript:
    """What was done and seen, printed at once and kept for the page."""

    lines: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        print(text, flush=True)
        self.lines.append(text)

    def check(self, what: str, held: bool) -> None:
        if not held:
            raise RehearsalFailed(what)
        self.say(f"ok: {what}")


@dataclass(frozen=True, slots=True)
class Engine:
    """The container engine that is here. `compose`: the command before Compose's own words."""

    binary: str
    compose: tuple[str, ...]

    @classmethod
    def found(cls) -> Engine:
        """Docker with its Compose plugin, else Podman. Raises RehearsalFailed when neither is here."""
        if shutil.which("docker"):
            plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
            server = subprocess.run(["docker", "info"], capture_output=True, check=False)
            if plugin.returncode == server.returncode == 0:
                return cls("docker", ("docker", "compose"))
        if shutil.which("podman") and shutil.which("podman-compose"):
            return cls("podman", ("podman-compose",))
        raise RehearsalFailed("needs Docker with Compose v2, or podman and podman-compose")

    def version(self) -> str:
        return run([self.binary, "--version"]).strip()

    def image_bytes(self, image: str) -> int:
        return int(run([self.binary, "image", "inspect", "--format", "{{.Size}}", image]))

    def containers(self, service: str) -> list[str]:
        """Ids of the running containers of one Compose service."""
        names = run([self.binary, "ps", "--format", "{{.ID}} {{.Names}}"]).splitlines()
        ours = (line.split() for line in names)
        return [found[0] for found in ours if found[1].replace("_", "-").startswith(f"arriero-{service}-")]

    def memory_bytes(self, container: str) -> str:
        return run([self.binary, "stats", "--no-stream", "--format", "{{.MemUsage}}", container]).strip()


def run(command: list[str], *, timeout_s: float = 900.0, environment: dict[str, str] | None = None) -> str:
    """The command's output. Raises RehearsalFailed with its last words when it fails."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode != 0:
        raise RehearsalFailed(f"`{' '.join(command)}` ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def wait_for(what: str, look: Callable[[], Any], timeout_s: float = 240.0) -> Any:
    """The first true value of `look()`; what it raises counts as not yet."""
    until = time.monotonic() + timeout_s
    last: object = None
    while time.monotonic() < until:
        try:
            if found := look():
                return found
        except Exception as error:  # a service that is not up yet fails in many ways
            last = error
        time.sleep(1.0)
    raise RehearsalFailed(f"waited {timeout_s:g} s for {what}; last seen: {last}")


class Rehearsal:
    """One run, from nothing to nothing."""

    def __init__(self, engine: Engine, transcript: Transcript, port: int) -> None:
        self.engine, self.transcript, self.port = engine, transcript, port
        self.url = f"http://127.0.0.1:{port}"
        self.environment = {"GATEWAY_PUBLISHED_PORT": str(port)}

    def compose(self, *words: str) -> str:
        return run([*self.engine.compose, *words], environment=self.environment)

    def say_compose(self, *words: str) -> None:
        self.transcript.say(f"$ {' '.join([*self.engine.compose, *words])}")

    def client(self) -> Client:
        return Client(self.url, (ROOT / ".arriero/secrets/api_key").read_text().strip(), 30.0)

    def build(self) -> None:
        self.say_compose("build")
        self.compose("build", "keys")
        base, ours = self.engine.image_bytes(BASE_IMAGE), self.engine.image_bytes("arriero:local")
        above_mb = (ours - base) / 1e6
        what = f"the image is {above_mb:.0f} MB above {BASE_IMAGE.rpartition('/')[2]}, limit {IMAGE_LIMIT_MB}"
        self.transcript.check(what, above_mb < IMAGE_LIMIT_MB)

    def start(self) -> None:
        profiles = ("--profile", "simulator", "--profile", "monitoring")
        words = (*profiles, "up", "-d", "--scale", f"worker={WORKERS}", *SERVICES)
        self.say_compose(*words)
        self.compose(*words)
        with self.client() as client:
            stats = wait_for("three workers at the queue", lambda: _with_workers(client, WORKERS))
        self.transcript.say(f"workers at the queue: {', '.join(sorted(w['id'] for w in stats['workers']))}")
        images = set(run([self.engine.binary, "ps", "--format", "{{.Image}}"]).split())
        self.transcript.say(f"durability: {stats['durability']}; images: {', '.join(sorted(images))}")
        for container in self.engine.containers("worker")[:1]:
            self.transcript.say(f"memory of a worker: {self.engine.memory_bytes(container)}")

    def share(self) -> None:
        with self.client() as client:
            jobs = [client.enqueue("chat.completion", _chat(f"Question {n}")) for n in range(JOBS)]
            ended = [client.wait(job.id, timeout=120.0) for job in jobs]
        self.transcript.check(f"{JOBS} jobs, all succeeded", all(job.succeeded for job in ended))
        by_worker = Counter(str(job.attempts[-1]["worker"]).partition(".")[0] for job in ended)
        self.transcript.say(f"jobs by worker: {dict(by_worker)}")
        self.transcript.check("three workers shared them", len(by_worker) == WORKERS)

    def scrape(self) -> None:
        def targets() -> dict[str, int]:
            up = self._query("count by (job) (up == 1)")
            return {row["metric"]["job"]: int(row["value"][1]) for row in up}

        expected = {"gateway": 1, "worker": WORKERS, "manager": 1, "monitor": 1}
        wait_for(f"Prometheus to scrape {expected}", lambda: expected.items() <= targets().items())
        self.transcript.check(f"Prometheus found by DNS and scrapes: {targets()}", True)
        counted = "sum(llm_worker_requests_total)"
        wait_for("Prometheus to have seen every job", lambda: float(self._query(counted)[0]["value"][1]) >= JOBS)
        self.transcript.check(f"{counted} is {JOBS}: no worker is missing", True)

    def kill(self) -> None:
        with self.client() as client:
            jobs = [client.enqueue("chat.completion", _chat(LONG_ANSWER)) for _ in range(WORKERS * 2)]
            running = wait_for("a running job", lambda: _running(client, jobs))
            time.sleep(2.0)  # into the middle of the answer
            worker = str(running.attempts[-1]["worker"])
            container = worker.partition(".")[0]
            self.transcript.say(f"$ {self.engine.binary} kill --signal KILL {container}   # runs {running.id}")
            killed_at = time.time()
            run([self.engine.binary, "kill", "--signal", "KILL", container])
            ended = [client.wait(job.id, timeout=240.0) for job in jobs]
        self.transcript.check(f"{len(jobs)} long jobs, all succeeded", all(job.succeeded for job in ended))
        hit = next(job for job in ended if job.id == running.id)
        story = [f"{a['worker']}: {a['outcome']}" for a in hit.attempts]
        self.transcript.say(f"attempts of {hit.id}: {'; '.join(story)}")
        again_s = float(hit.attempts[-1]["started_at"]) - killed_at
        self.transcript.check(f"begun again {again_s:.1f} s after the kill", len(hit.attempts) == 2)

    def operate(self) -> None:
        command = ("arriero", "queue", "stats")
        self.say_compose("run", "--rm", *command)
        output = self.compose("--profile", "tools", "run", "--rm", "--no-deps", "-T", *command)
        self.transcript.say(output.rstrip())

    def stop(self) -> None:
        self.compose(
            "--profile",
            "simulator",
            "--profile",
            "monitoring",
            "--profile",
            "tools",
            "down",
            "--volumes",
            "--remove-orphans",
        )

    def _query(self, expression: str) -> list[dict[str, Any]]:
        # Prometheus' port is not published, so the question is asked from inside.
        gateway = self.engine.containers("gateway")[0]
        answer = json.loads(run([self.engine.binary, "exec", gateway, "python", "-c", ASK_PROMETHEUS, expression]))
        return list(answer["data"]["result"])


def _chat(prompt: str) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": prompt}]}


def _with_workers(client: Client, count: int) -> dict[str, Any] | None:
    stats = client.request("GET", "/admin/queue")
    return dict(stats) if len(stats["workers"]) == count else None


def _running(client: Client, jobs: list[Job]) -> Job | None:
    return next((job for job in (client.get(job.id) for job in jobs) if job.status == "running"), None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def render(transcript: Transcript, engine: Engine, verdict: str) -> str:
    """The results page."""
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    head = [
        "# Results: the compose file, run for real",
        "",
        "Written by `make compose-rehearsal`; do not edit. The lines that begin with `ok:` are checks.",
        "",
        f"- commit {commit()}, {when}, {engine.version()}",
        f"- {verdict}",
        "",
        "```",
    ]
    return "\n".join([*head, *transcript.lines, "```", ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running at the end")
    parser.add_argument("--no-build", action="store_true", help="use the image that is there")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the results go")
    options = parser.parse_args()
    transcript = Transcript()
    try:
        engine = Engine.found()
        rehearsal = Rehearsal(engine, transcript, _free_port())
        run(["sh", "infra/compose/secrets.sh"])
        rehearsal.stop()
        if not options.no_build:
            rehearsal.build()
        try:
            for act in (rehearsal.start, rehearsal.share, rehearsal.scrape, rehearsal.kill, rehearsal.operate):
                act()
        finally:
            if not options.keep:
                rehearsal.stop()
    except RehearsalFailed as failure:
        print(f"compose-rehearsal: {failure}", file=sys.stderr)
        return 1
    options.page.write_text(render(transcript, engine, "every check held"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
