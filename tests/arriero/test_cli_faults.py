"""The command where something around it is wrong: one line, never a traceback, and soon."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from arriero.cli.daemons import ANSWER_S
from arriero.cli.failures import describe
from arriero.errors import ApiError
from shared.settings import check_redis_url
from tests.arriero.fake_gateway import FakeGateway, FakeJob
from tests.arriero.test_cli import PROJECT, Command
from tests.house.redis_server import free_port


@pytest.fixture
def arriero(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://localhost/9", "redis://, rediss://"),
        ("localhost:6379", "redis://, rediss://"),
        ("redis://:hunter2@localhost:99999/0", "1 to 65535"),
        ("redis://:hunter2@localhost:0/0", "1 to 65535"),
        ("redis://localhost:port/0", "1 to 65535"),
        ("redis://:hunter2@localhost/abc", "database is a number"),
        ("redis://localhost/1?db=abc", "database is a number"),
        ("unix:///run/redis.sock?db=abc", "database is a number"),
    ],
)
def test_a_redis_url_that_cannot_be(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        check_redis_url(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["redis://localhost", "rediss://u:p@[::1]:6380/15", "unix:///run/redis.sock?db=2", "redis://cache:6379/"],
)
def test_redis_urls_that_are_fine(url: str) -> None:
    assert check_redis_url(url) == url


@pytest.mark.req("S0-35")
async def test_a_wrong_redis_url_is_named_by_every_command(arriero: Command) -> None:
    wrong = "redis://:hunter2@localhost:99999/0"
    for words in (("queue", "stats"), ("top", "--once"), ("config", "check")):
        done = await arriero(*words, REDIS_URL=wrong)
        assert done.status == 78, words
        assert "REDIS_URL" in done.out + done.err
        assert "hunter2" not in done.out + done.err
        assert len((done.out + done.err).splitlines()) == 1
    doctor = await arriero("doctor", REDIS_URL=wrong, OLLAMA_BASE_URLS=f"http://127.0.0.1:{free_port()}")
    assert doctor.status == 1
    assert "REDIS_URL" in doctor.out


async def test_what_answers_in_the_place_of_redis(arriero: Command, gateway: FakeGateway) -> None:
    done = await arriero("queue", "stats", REDIS_URL=gateway.url.replace("http", "redis") + "/0")
    assert done.status == 69
    assert "REDIS_URL" in done.err
    assert len(done.err.splitlines()) == 1


async def test_bytes_that_are_no_text_are_wrong_usage(arriero: Command, gateway: FakeGateway) -> None:
    for words in (("chat", "caf\udce9"), ("chat", "-"), ("embed", "-"), ("jobs", "submit", "-")):
        done = await arriero(*words, stdin="caf\udce9", ARRIERO_URL=gateway.url, PYTHONUTF8="1")
        assert done.status == 2, done.err
        assert "UTF-8" in done.err or "is not JSON" in done.err
    assert not gateway.jobs


@pytest.mark.parametrize("module", ["httpx", "typer"])
def test_ctrl_c_while_it_loads_is_silent(module: str) -> None:
    interrupting = (
        "import sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}: raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from arriero.cli import main\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", interrupting], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


async def test_who_looks_does_not_wait_for_daemons_that_hang(arriero: Command, redis_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        url = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        names = ("ARRIERO_URL", "ARRIERO_MANAGER_URL", "ARRIERO_MONITOR_URL", "OLLAMA_BASE_URLS")
        for words in (("top", "--once"), ("doctor",)):
            began = time.monotonic()
            done = await arriero(*words, REDIS_URL=redis_url, **dict.fromkeys(names, url))
            assert time.monotonic() - began < ANSWER_S
            assert done.status == (3 if words[0] == "top" else 1), "no worker is alive"
            assert "does not answer" in done.out


async def test_the_doctor_asks_whether_the_key_is_one(arriero: Command, gateway: FakeGateway, redis_url: str) -> None:
    around = {"ARRIERO_URL": gateway.url, "REDIS_URL": redis_url, "OLLAMA_BASE_URLS": f"http://127.0.0.1:{free_port()}"}

    async def key(**more: str) -> dict[str, str]:
        found = json.loads((await arriero("doctor", "--json", **around, **more)).out)
        return next(finding for finding in found if finding["what"] == "API key")

    assert (await key())["detail"] == "the gateway asks for none"
    gateway.key = "ark_" + "a" * 12 + "_" + "b" * 40
    refused = await key()
    assert refused["state"] == "fail"
    assert "ARRIERO_API_KEY" in refused["remedy"]
    assert (await key(ARRIERO_API_KEY=gateway.key))["detail"] == "the gateway takes it"


async def test_without_ollama_no_host_can_be_measured(arriero: Command) -> None:
    done = await arriero("bench", "model", "llama3.2", "--direct", OLLAMA_ENABLED="false")
    assert done.status == 2
    assert "--host" in done.err and "switched off" in done.err


@pytest.mark.parametrize(
    ("http_status", "code", "status"),
    [
        (400, "invalid_request", 2), (400, "backend_rejected", 1), (400, "", 1),
        (401, "unauthenticated", 78), (404, "job_not_found", 1), (409, "", 1),
        (429, "queue_full", 69), (503, "queue_unavailable", 69), (502, "backend_error", 1),
        (502, "registry_unavailable", 69),
    ],
)  # fmt: skip
def test_exit_statuses(http_status: int, code: str, status: int) -> None:
    assert describe(ApiError("no", status=http_status, code=code))[1] == status


async def test_the_next_page_is_one_of_the_same_list(arriero: Command, gateway: FakeGateway) -> None:
    for number in range(2):
        job = FakeJob(f"job_{number}", {"type": "chat.completion", "request": {"model": "m"}})
        gateway.jobs[job.id] = job
    done = await arriero(
        "jobs", "list", "--limit", "1", "--status", "queued", "--model", "a b", ARRIERO_URL=gateway.url
    )
    assert "more: arriero jobs list --status queued --model 'a b' --limit 1 --cursor 1\n" in done.out
