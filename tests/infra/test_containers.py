"""The image's parts that can be checked without building it: what goes in, how it starts, how it says it is alive."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from infra.docker.healthcheck import PROBES, service_among
from tests.house.redis_server import DATABASE, free_port, server_binary
from tests.house.requirements import ROOT
from tests.house.tree import PACKAGES
from tests.infra.test_compose import services

DOCKER = ROOT / "infra" / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()


# --- The Dockerfile ---
def test_every_package_goes_in_and_nothing_else_is_sent() -> None:
    copied = set(re.findall(r"^COPY (\w+) \1$", DOCKERFILE, re.MULTILINE))
    assert copied == set(PACKAGES)
    sent = {line[1:] for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sent == {*PACKAGES, "pyproject.toml", "README.md", "LICENSE", "requirements.lock"}


def test_packages_come_from_the_lock_checked_by_hash() -> None:
    assert "--require-hashes --requirement requirements.lock" in DOCKERFILE
    for install in re.findall(r"pip (?:--python \S+ )?install (.*)", DOCKERFILE):
        assert "--no-index" in install
    locked = (ROOT / "requirements.lock").read_text()
    left_out = re.findall(r"wheels/([\w-]+?)-\*\.whl", DOCKERFILE)
    assert left_out
    assert not [package for package in left_out if f"\n{package}==" not in locked]


def test_it_runs_as_nobody_special_on_the_pinned_base() -> None:
    assert "ARG PYTHON_IMAGE=python:3.11-slim-bookworm" in DOCKERFILE
    assert re.search(r"^USER (\d+):\1$", DOCKERFILE, re.MULTILINE)
    assert "curl" not in DOCKERFILE
    assert "apt-get" not in DOCKERFILE


@pytest.mark.parametrize(
    ("arguments", "started"),
    [
        (["gateway"], "python -m gateway"),
        (["worker", "--processes", "2"], "python -m worker --processes 2"),
        (["manager"], "python -m manager"),
        (["monitor", "--once"], "python -m monitor --once"),
        (["simulator", "--models", "a,b"], "python -m infra.simulator --host 0.0.0.0 --models a,b"),
        (["arriero", "queue", "stats"], "arriero queue stats"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_the_first_word_says_what_starts(tmp_path: Path, arguments: list[str], started: str) -> None:
    for name in ("python", "arriero"):
        stub = tmp_path / name
        stub.write_text(f'#!/bin/sh\necho "{name} $*" "${{WORKER_ID:-}}"\n')
        stub.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOSTNAME": "c0ffee"}
    done = subprocess.run(
        ["sh", str(DOCKER / "start.sh"), *arguments], env=environment, capture_output=True, text=True, check=True
    )
    worker_id = "c0ffee" if arguments[0] == "worker" else ""
    assert done.stdout.strip() == f"{started} {worker_id}".strip()


# --- The health check ---
@pytest.fixture
def alive() -> Iterator[int]:
    """The port of a server that is alive, and nothing else."""

    class Pages(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health/live" else 503)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def health(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "infra.docker.healthcheck", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def test_health_is_liveness_not_readiness(alive: int) -> None:
    assert health("worker", WORKER_PORT=str(alive)).returncode == 0


def test_a_dead_service_is_unhealthy() -> None:
    done = health("gateway", GATEWAY_PORT=str(free_port()))
    assert (done.returncode, done.stderr.strip()) == (1, "gateway does not answer")


def test_the_service_is_the_one_that_process_1_was_started_as() -> None:
    assert service_among(["python", "-m", "monitor"]) == "monitor"
    assert service_among(["/sbin/docker-init", "--", "python", "-m", "infra.simulator", "--host"]) == "infra.simulator"
    assert service_among(["sh"]) is None
    assert health("nothing").returncode == 1
    assert PROBES.keys() == {"gateway", "worker", "manager", "monitor", "infra.simulator"}


# --- Secrets, and a Redis that knows them ---
@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """What infra/compose/secrets.sh makes, in a copy of the tree."""
    for name in ("infra/compose/secrets.sh", "infra/redis/users.acl"):
        (tmp_path / name).parent.mkdir(parents=True)
        shutil.copy(ROOT / name, tmp_path / name)
    make_secrets(tmp_path)
    return tmp_path / ".arriero" / "secrets"


def make_secrets(root: Path) -> None:
    subprocess.run(["sh", str(root / "infra/compose/secrets.sh")], check=True)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_secrets_are_made_once_and_fit_together(secrets: Path) -> None:
    first = contents(secrets)
    declared = {"redis_password", "redis_users", "api_key", "metrics_key", "grafana_password"}
    assert first.keys() == declared
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert hashlib.sha256(first["redis_password"].strip().encode()).hexdigest() in first["redis_users"]
    assert len({text for name, text in first.items() if name != "redis_users"}) == 4
    make_secrets(secrets.parents[1])
    assert contents(secrets) == first


@contextmanager
def redis_of_compose(secrets: Path, folder: Path) -> Iterator[Redis]:
    """Redis as docker-compose.yml starts it, and a client of the one user it lets in."""
    port = free_port()
    # What the container has elsewhere is named on the command line, which wins over the file.
    elsewhere = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    configuration = [str(ROOT / "infra/redis/redis.conf"), "--aclfile", str(secrets / "redis_users")]
    command = [server_binary(), *configuration, *elsewhere]
    password = (secrets / "redis_password").read_text().strip()
    with (
        subprocess.Popen(command, stdout=subprocess.DEVNULL) as process,
        Redis(port=port, db=DATABASE, username="arriero", password=password) as client,
    ):
        try:
            give_up_at = time.monotonic() + 10.0
            while not answers(client):
                assert process.poll() is None and time.monotonic() < give_up_at, "Redis did not start"
                time.sleep(0.02)
            yield client
        finally:
            process.terminate()


def answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisConnectionError:
        return False


def test_redis_starts_as_shipped_and_the_first_key_gets_in_by_file(secrets: Path, tmp_path: Path) -> None:
    with redis_of_compose(secrets, tmp_path) as redis:
        port = redis.connection_pool.connection_kwargs["port"]
        environment = {
            **os.environ,
            "REDIS_URL": f"redis://127.0.0.1:{port}/{DATABASE}",
            "REDIS_USERNAME": "arriero",
            "REDIS_PASSWORD_FILE": str(secrets / "redis_password"),
        }

        def keys(*words: str) -> str:
            command = [sys.executable, "-m", "arriero", "keys", *words]
            done = subprocess.run(command, cwd=secrets, env=environment, check=True, capture_output=True, text=True)
            return done.stdout

        for _ in range(2):  # the service `keys` does it at every start
            keys("import", str(secrets / "api_key"), "--tenant", "default", "--role", "admin")
        [listed] = json.loads(keys("list", "--json"))
        text = (secrets / "api_key").read_text().strip()
        assert (listed["id"], listed["tenant"], listed["role"]) == (text.split("_")[1], "default", "admin")
    assert list((tmp_path / "appendonlydir").iterdir())


def test_the_services_that_store_keys_use_the_import_command() -> None:
    [script] = [word for word in services()["keys"]["command"] if "import" in word]
    assert script.count("arriero keys import /run/secrets/") == 2
    assert "--role admin" in script
    assert "--role operator" in script
