"""The command as a process: what it prints, where, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.api_keys import as_key_store
from shared.jobs import Kind, NewJob
from shared.queue.client import QueueClient
from shared.settings import BaseServiceSettings
from shared.wire.canonical import ChatRequest, Message
from tests.arriero.fake_gateway import ANSWER, FakeGateway
from tests.house.redis_server import free_port

PROJECT = Path(__file__).resolve().parents[2]
OURS = (
    "ARRIERO_",
    "GATEWAY_",
    "WORKER_",
    "MANAGER_",
    "MONITOR_",
    "REDIS_",
    "OLLAMA_",
    "LOG_",
    "QUEUE_SHARD",
    "NO_COLOR",
)


@dataclass(slots=True)
class Done:
    status: int
    out: str
    err: str


class Command:
    """Runs `arriero` in a directory of its own, knowing only the environment it is given."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        self.environment["PYTHONPATH"] = str(PROJECT)

    async def __call__(self, *arguments: str, stdin: str = "", **environment: str) -> Done:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "arriero", *arguments),
            cwd=self.directory,
            env=self.environment | environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(stdin.encode(errors="surrogateescape")), 30)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        assert b"Traceback" not in err, err.decode()
        return Done(process.returncode, out.decode(), err.decode())


@pytest.fixture
def arriero(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def at_gateway(arriero: Command, gateway: FakeGateway) -> Command:
    arriero.environment["ARRIERO_URL"] = gateway.url
    return arriero


@pytest.fixture
async def queue(redis_url: str, arriero: Command) -> AsyncIterator[QueueClient]:
    arriero.environment["REDIS_URL"] = redis_url
    client = await QueueClient.connect(BaseServiceSettings.model_validate({"redis_url": redis_url}))
    yield client
    await client.aclose()


async def test_chat_streams_the_answer_and_nothing_else(at_gateway: Command, gateway: FakeGateway) -> None:
    gateway.cut_after.append(2)
    done = await at_gateway("chat", "hello", "--system", "Be brief.")
    assert (done.status, done.out) == (0, "".join(ANSWER) + "\n")
    request = next(iter(gateway.jobs.values())).body["request"]
    assert request["model"] == "llama3.2", "the first model that is not for embeddings"
    assert [turn["role"] for turn in request["messages"]] == ["system", "user"]


async def test_chat_from_stdin_in_one_piece(at_gateway: Command, gateway: FakeGateway) -> None:
    done = await at_gateway("chat", "-", "--no-stream", "--model", "mistral", stdin="a long\nprompt")
    assert (done.status, done.out) == (0, "".join(ANSWER) + "\n")
    request = next(iter(gateway.jobs.values())).body["request"]
    assert request["messages"][0]["content"] == "a long\nprompt"
    assert request["model"] == "mistral"


async def test_chat_json_is_one_event_a_line(at_gateway: Command) -> None:
    done = await at_gateway("chat", "hello", "--json")
    events = [json.loads(line) for line in done.out.splitlines()]
    assert [event["event"] for event in events] == ["started", *["chunk"] * len(ANSWER), "ended"]
    assert events[-1]["job"]["status"] == "succeeded"


async def test_a_failed_job_is_one_line_and_status_1(at_gateway: Command, gateway: FakeGateway) -> None:
    gateway.end_as = "dead_lettered"
    done = await at_gateway("chat", "hello", "--no-stream")
    assert done.status == 1
    assert done.err.startswith("arriero: job job_1 dead_lettered: The model server reported")
    assert len(done.err.splitlines()) == 1


async def test_embed(at_gateway: Command) -> None:
    done = await at_gateway("embed", "one", "three", "--json")
    assert [item["embedding"] for item in json.loads(done.out)["data"]] == [[3.0, 0.5], [5.0, 0.5]]
    table = await at_gateway("embed", "-", stdin="one\nthree\n")
    assert table.status == 0
    assert "+5.0000" in table.out


async def test_jobs(at_gateway: Command, gateway: FakeGateway, tmp_path: Path) -> None:
    gateway.hold = True
    (tmp_path / "request.json").write_text('{"model": "llama3.2", "messages": [{"role": "user", "content": "x"}]}')
    submitted = await at_gateway("jobs", "submit", "request.json", "--priority", "low", "--idempotency-key", "k")
    assert (submitted.status, submitted.out) == (0, "job_1\n")
    assert gateway.jobs["job_1"].body["priority"] == "low"
    assert list(gateway.by_key) == ["k"]

    listed = await at_gateway("jobs", "list")
    assert "job_1" in listed.out
    assert "queued" in listed.out
    assert "\x1b" not in listed.out, "no colours in a pipe"
    assert json.loads((await at_gateway("jobs", "list", "--json")).out)["jobs"][0]["id"] == "job_1"

    shown = await at_gateway("jobs", "show", "job_1")
    assert "position 3, expected wait 1.5 s" in shown.out

    cancelled = await at_gateway("jobs", "cancel", "job_1")
    assert (cancelled.status, cancelled.out) == (0, "job_1 is cancelled\n")

    watched = await at_gateway("jobs", "watch", gateway.add_restarted_job())
    assert watched.status == 0
    assert watched.out.endswith("kept\n")
    assert "starts over" in watched.err


async def test_wrong_usage_is_status_2(at_gateway: Command) -> None:
    assert (await at_gateway("chat")).status == 2
    assert (await at_gateway("frobnicate")).status == 2
    not_json = await at_gateway("jobs", "submit", "-", stdin="{")
    assert not_json.status == 2
    assert "is not JSON" in not_json.err


async def test_unknown_job_is_status_1(at_gateway: Command) -> None:
    done = await at_gateway("jobs", "show", "job_nobody_made")
    assert (done.status, done.err) == (1, "arriero: No such job.\n")


async def test_no_gateway_is_status_69_with_the_remedy(arriero: Command) -> None:
    done = await arriero("jobs", "list", ARRIERO_URL=f"http://127.0.0.1:{free_port()}")
    assert done.status == 69
    assert "start it with `make run`" in done.err
    assert len(done.err.splitlines()) == 1


async def test_full_queue_is_status_69_with_the_time(at_gateway: Command, gateway: FakeGateway) -> None:
    gateway.refuse.extend([(429, "queue_full", {"retry-after": "0"})] * 2)
    done = await at_gateway("jobs", "list")
    assert (done.status, done.err) == (69, "arriero: refused with queue_full\n")


@pytest.mark.req("S0-35")
async def test_a_wrong_setting_is_named_with_status_78(arriero: Command) -> None:
    done = await arriero("health", GATEWAY_PORT="eighty")
    assert done.status == 78
    assert "GATEWAY_PORT" in done.err
    assert len(done.err.splitlines()) == 1
    shown = await arriero("config", "show", WORKER_CONCURRENCY="many")
    assert shown.status == 78
    assert "WORKER_CONCURRENCY" in shown.err


@pytest.mark.req("S1-67")
async def test_health(at_gateway: Command) -> None:
    port = str(free_port())
    done = await at_gateway("health", "--json", WORKER_PORT=port, MANAGER_PORT=port, MONITOR_PORT=port)
    states = {one["service"]: one["state"] for one in json.loads(done.out)["services"]}
    assert states == {"gateway": "ok", "worker": "down", "manager": "down", "monitor": "down"}
    assert done.status == 69
    table = await at_gateway("health", WORKER_PORT=port, MANAGER_PORT=port, MONITOR_PORT=port)
    assert "make run" in table.out


@pytest.mark.req("S1-68", "S1-69", "D-03")
async def test_queue_statistics_and_clearing_without_a_gateway(arriero: Command, queue: QueueClient) -> None:
    request = ChatRequest(model="m", messages=[Message(role="user", content="x")])
    for _ in range(3):
        await queue.enqueue(NewJob(kind=Kind.CHAT, model="m", request=request))
    stats = json.loads((await arriero("queue", "stats", "--json")).out)
    assert stats["states"]["queued"] == 3
    assert stats["queued_by_class"]["normal"] == 3
    table = await arriero("queue", "stats")
    assert table.status == 0
    assert "no worker is alive" in table.out

    refused = await arriero("queue", "clear")
    assert refused.status == 2
    assert "--yes" in refused.err
    assert json.loads((await arriero("queue", "clear", "--yes", "--json")).out) == {"cancelled": 3}
    assert json.loads((await arriero("queue", "stats", "--json")).out)["states"]["queued"] == 0


async def test_keys(arriero: Command, queue: QueueClient) -> None:
    made = await arriero("keys", "create", "--tenant", "acme", "--role", "operator", "--name", "console", "--json")
    assert made.status == 0, made.err
    key = json.loads(made.out)
    secret = key["key"].rpartition("_")[2]
    assert (key["tenant"], key["role"], key["name"]) == ("acme", "operator", "console")
    listed = await arriero("keys", "list")
    assert key["id"] in listed.out
    assert secret not in listed.out
    stored = await as_key_store(queue.redis).hgetall(queue.keys.api_keys)
    assert secret.encode() not in b"".join(stored.values()), "only a hash is stored"
    assert (await arriero("keys", "revoke", key["id"], "--yes")).status == 0
    assert json.loads((await arriero("keys", "list", "--json")).out) == []
    again = await arriero("keys", "revoke", key["id"], "--yes")
    assert again.status == 1
    assert "there is no key" in again.err
    assert (await arriero("keys", "create", "--tenant", "acme", "--role", "king")).status == 2
    assert (await arriero("keys", "create", "--tenant", "not ok")).status == 2


async def test_no_redis_is_status_69_with_the_remedy_and_without_the_password(arriero: Command) -> None:
    done = await arriero("queue", "stats", REDIS_URL=f"redis://user:hunter2@127.0.0.1:{free_port()}/9")
    assert done.status == 69
    assert "REDIS_URL" in done.err
    assert "hunter2" not in done.err + done.out


async def test_config_show_masks_secrets_and_tells_sources(arriero: Command, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("GATEWAY_PORT=8123\nWORKER_CONCURRENCY=7\n")
    done = await arriero(
        *("config", "show", "--json"),
        WORKER_CONCURRENCY="9",
        REDIS_PASSWORD="hunter2",
        REDIS_URL="redis://:hunter3@localhost/9",
        OLLAMA_URL="http://far:11434",
    )
    assert "hunter" not in done.out
    rows = {row["names"][0]: row for row in json.loads(done.out)}
    assert (rows["GATEWAY_PORT"]["value"], rows["GATEWAY_PORT"]["source"]) == ("8123", ".env (GATEWAY_PORT)")
    assert (rows["WORKER_CONCURRENCY"]["value"], rows["WORKER_CONCURRENCY"]["source"][:11]) == ("9", "environment")
    assert rows["OLLAMA_BASE_URLS"]["value"] == "http://far:11434"
    assert rows["OLLAMA_BASE_URLS"]["source"] == "environment (OLLAMA_URL)"
    assert rows["REDIS_PASSWORD"]["value"] == "********"
    assert rows["REDIS_URL"]["value"] == "redis://:********@localhost/9"
    table = await arriero("config", "show", "--changed")
    assert "GATEWAY_PORT" in table.out
    assert "MANAGER_PORT" not in table.out


@pytest.mark.req("S1-99")
async def test_env_example_is_generated_and_checked(arriero: Command, tmp_path: Path) -> None:
    made = await arriero("config", "env-example")
    assert "#GATEWAY_PORT=8000\n" in made.out
    assert "#WORKER_CONCURRENCY=5\n" in made.out
    assert made.out.count("#REDIS_URL=") == 1
    file = tmp_path / "example"
    file.write_text(made.out)
    assert (await arriero("config", "env-example", "--check", "example")).status == 0
    file.write_text(made.out.replace("#GATEWAY_PORT=8000", "#GATEWAY_PORT=8001"))
    drifted = await arriero("config", "env-example", "--check", "example")
    assert drifted.status == 1
    assert "GATEWAY_PORT=8000" in drifted.err


async def test_the_env_example_in_the_tree_is_the_generated_one(arriero: Command) -> None:
    done = await arriero("config", "env-example", "--check", str(PROJECT / ".env.example"))
    assert done.status == 0, done.err


async def test_ctrl_c_cancels_the_chat_nobody_waits_for(at_gateway: Command, gateway: FakeGateway) -> None:
    gateway.hold = True
    process = await asyncio.create_subprocess_exec(
        sys.executable, *("-m", "arriero", "chat", "hello"), cwd=PROJECT, env=at_gateway.environment
    )
    until = asyncio.get_running_loop().time() + 20
    while not gateway.resumed_from:
        assert asyncio.get_running_loop().time() < until
        await asyncio.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 10) == 130
    assert gateway.jobs["job_1"].status == "cancelled"


async def test_doctor_says_what_to_do(arriero: Command, queue: QueueClient) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    healthy = await arriero("doctor", "--json", OLLAMA_BASE_URLS=nobody)
    findings = {finding["what"]: finding for finding in json.loads(healthy.out)}
    assert findings["Redis"]["state"] == "ok"
    assert findings["Redis durability"]["state"] == "warn", "the tests' server writes nothing to disk"
    assert "ollama serve" in findings[f"Ollama {nobody}"]["remedy"]
    await queue.ping()
    broken = await arriero("doctor", REDIS_URL=f"redis://127.0.0.1:{free_port()}/9")
    assert broken.status == 1
    assert "REDIS_URL" in broken.out


async def test_version(arriero: Command) -> None:
    done = await arriero("version", "--json")
    assert json.loads(done.out)["arq"] == "0.28.0"
    assert (await arriero("version")).out.startswith("arriero ")
