"""Clients from settings: passwords, sockets, TLS, Sentinel, and the least rights that are enough."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from redis import Redis
from redis.exceptions import AuthenticationError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.replies import Replies
from shared.errors import QueueUnavailable
from shared.jobs import State
from shared.queue.client import QueueClient
from shared.queue.connection import connect, within
from shared.queue.running import RunningJob
from shared.settings import BaseServiceSettings
from shared.wire.canonical import Delta
from shared.wire.events import Chunk, Ended
from tests.conftest import WaitUntil
from tests.house.guarded_redis import PASSWORD, guarded_redis, refused
from tests.house.redis_server import DATABASE, RedisServer, free_port, server_binary
from tests.shared.queue.rig import ANSWER, Gate, chat, settings_for, working
from tests.shared.queue.test_leases import has_state, read


async def ping(settings: BaseServiceSettings) -> bool:
    client = connect(settings)
    try:
        return bool(await client.ping())
    finally:
        await client.aclose(close_connection_pool=True)


@pytest.mark.req("S1-79")
async def test_the_password_setting_overrides_the_one_in_the_url() -> None:
    with RedisServer() as server:
        with Redis.from_url(server.url) as admin:
            admin.config_set("requirepass", PASSWORD)
        url = server.url.replace("redis://", "redis://:wrong@")

        assert await ping(settings_for(url, redis_password=SecretStr(PASSWORD)))
        assert await ping(settings_for(server.url, redis_password=SecretStr(PASSWORD)))
        with pytest.raises(AuthenticationError):
            await ping(settings_for(url))


@pytest.mark.req("S1-78")
async def test_the_url_names_the_database(redis_url: str) -> None:
    assert redis_url.endswith(f"/{DATABASE}")
    client = connect(settings_for(redis_url))
    await client.set("gw:{gw}:keys", "here", ex=5)
    with Redis.from_url(redis_url) as direct:
        assert direct.get("gw:{gw}:keys") == b"here"
    await client.aclose(close_connection_pool=True)


async def test_commands_of_two_words_are_understood(redis_url: str) -> None:
    client = connect(settings_for(redis_url))
    assert (await client.config_get("appendfsync"))["appendfsync"]
    await client.aclose(close_connection_pool=True)


async def test_stats_tell_the_fsync_policy() -> None:
    with RedisServer(("--appendonly", "yes", "--appendfsync", "always")) as server:
        client = await QueueClient.connect(settings_for(server.url))
        assert (await client.stats()).durability == "aof-always"
        await client.aclose()


async def test_a_unix_socket_serves_as_well() -> None:
    with tempfile.TemporaryDirectory(prefix="arriero-") as folder:
        path = str(Path(folder) / "redis.sock")
        with RedisServer(("--unixsocket", path)):
            assert await ping(settings_for(f"unix://{path}?db={DATABASE}"))


async def test_a_ca_file_without_tls_does_no_harm(redis_url: str) -> None:
    assert await ping(settings_for(redis_url, redis_ca_file="ca.pem"))


async def test_a_call_is_given_up_in_time() -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    with pytest.raises(QueueUnavailable) as caught:
        await within(0.05, never)
    assert caught.value.retry_after_s == 2


# -- TLS ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate() -> Iterator[Path]:
    """A certificate for localhost with its key, signed by itself, in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl on PATH to make a certificate with")
    with tempfile.TemporaryDirectory(prefix="arriero-tls-") as folder:
        path = Path(folder) / "localhost.pem"
        subprocess.run(
            [
                *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
                *(
                    "-addext",
                    "subjectAltName=DNS:localhost,IP:127.0.0.1",
                    "-keyout",
                    str(path),
                    "-out",
                    str(path) + "c",
                ),
            ],
            check=True,
            capture_output=True,
        )
        path.write_text(path.read_text() + Path(str(path) + "c").read_text())
        yield path


@contextlib.asynccontextmanager
async def tls_front(port: int, certificate: Path) -> AsyncIterator[int]:
    """A port that speaks TLS and passes on to `port`: the embedded server is built without TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    served: set[asyncio.Task[None]] = set()

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        sink.close()
        with contextlib.suppress(OSError):
            await sink.wait_closed()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.add(task)
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, back_writer), copy(back_reader, writer))

    front = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield front.sockets[0].getsockname()[1]
    finally:
        front.close()
        await asyncio.gather(*served)


async def test_tls_verifies_the_servers_certificate(certificate: Path, redis_server: RedisServer) -> None:
    async with tls_front(redis_server.port, certificate) as port:
        url = f"rediss://localhost:{port}/{DATABASE}"
        assert await ping(settings_for(url, redis_ca_file=str(certificate)))
        with pytest.raises(RedisConnectionError, match="certificate verify failed"):
            await ping(settings_for(url))


# -- Sentinel ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def sentinel_watching(server: RedisServer) -> Iterator[int]:
    """A Sentinel that promotes a replica of `server` soon after it is gone."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="arriero-sentinel-") as folder:
        config = Path(folder) / "sentinel.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor mymaster 127.0.0.1 {server.port} 1\n"
            "sentinel down-after-milliseconds mymaster 400\nsentinel failover-timeout mymaster 2000\n"
        )
        process = subprocess.Popen(
            [server_binary(), str(config), "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield port
        finally:
            process.kill()
            process.wait()


async def test_a_worker_follows_the_sentinels_to_the_new_primary(wait_until: WaitUntil) -> None:
    with RedisServer() as primary, RedisServer(("--replicaof", f"127.0.0.1 {primary.port}")) as replica:
        with Redis(port=replica.port) as direct:
            await wait_until(lambda: _info(direct)["master_link_status"] == "up", description="the replica follows")
        with sentinel_watching(primary) as port, Redis(port=port) as sentinel:
            await wait_until(lambda: _replicas(sentinel) == 1, timeout_s=15, description="the Sentinel knows both")
            settings = settings_for(
                f"redis://unused:1/{DATABASE}", redis_sentinels=[f"127.0.0.1:{port}"], redis_sentinel_master="mymaster"
            )
            client = await QueueClient.connect(settings)
            gate, before, after = Gate(), chat(), chat()
            gate.open()
            async with working("", gate.run, settings=settings):
                await client.enqueue(before)
                await wait_until(lambda: has_state(client, before.id, State.SUCCEEDED))
                primary.kill()
                await wait_until(lambda: _accepts(client, after), timeout_s=15, description="the failover")
                await wait_until(lambda: has_state(client, after.id, State.SUCCEEDED), timeout_s=15)
            await client.aclose()
        with Redis(port=replica.port, db=DATABASE) as direct:
            assert direct.exists(client.keys.record(after.id))


def _info(client: Any) -> dict[str, Any]:
    info: dict[str, Any] = client.info("replication")
    return info


def _replicas(sentinel: Any) -> int:
    try:
        return len(sentinel.sentinel_slaves("mymaster"))
    except RedisConnectionError:  # it is still starting
        return 0


async def _accepts(client: QueueClient, job: Any) -> bool:
    try:
        await client.enqueue(job)
    except QueueUnavailable:
        return False
    return True


# -- Least rights ------------------------------------------------------------------------------------------


@pytest.fixture
def guarded() -> Iterator[tuple[RedisServer, Any]]:
    """A server under the shipped ACL file, and its administrator's client."""
    with guarded_redis() as both:
        yield both


async def test_the_whole_road_runs_under_the_shipped_acl(
    guarded: tuple[RedisServer, Any], wait_until: WaitUntil
) -> None:
    server, admin = guarded
    settings = settings_for(server.url, redis_username="arriero", redis_password=SecretStr(PASSWORD))
    client = await QueueClient.connect(settings)
    replies = Replies(client, "g1", blocking=connect(settings, socket_timeout_s=15))
    await replies.start()

    async def talk(ctx: dict[str, Any], job: RunningJob) -> bytes:
        job.publish(Delta(content="one"))
        return ANSWER

    async with working("", talk, settings=settings):
        job = chat(keep_events=True, reply_to="g1", metadata={"a": "b"})
        with replies.expect(job.id) as events:
            await client.enqueue(job)
            seen = [event async for event in events]
        assert any(isinstance(event, Chunk) for event in seen) and isinstance(seen[-1], Ended)
        scheduled = chat(delay_s=60)
        await client.enqueue(scheduled)
        attached = await replies.attach(job.id)
        assert attached is not None and await attached.ended(2) is not None
        attached.close()
        assert await client.cancel(scheduled.id) is State.CANCELLED
        assert len((await client.list("default")).jobs) == 2
        assert (await client.stats()).durability == "none"
        assert await client.positions([job.id]) == {}
        assert await client.clear() == 0
        await asyncio.sleep(1.2)  # the gateway's housekeeping has had a turn
    assert (await read(client, job.id)).state is State.SUCCEEDED
    await replies.stop()
    await replies._redis.aclose(close_connection_pool=True)
    await client.aclose()

    assert refused(admin) == []


@pytest.mark.parametrize(
    "command",
    [
        ("CONFIG", "GET", "*"),
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("KEYS", "*"),
        ("DEBUG", "SLEEP", "0"),
        ("MODULE", "LIST"),
        ("CLIENT", "KILL", "TYPE", "normal"),
        ("ACL", "LIST"),
        ("SCRIPT", "FLUSH"),
        ("SHUTDOWN", "NOSAVE"),
        ("GET", "somebody:elses"),
        ("EVAL", "return redis.call('GET', 'somebody:elses')", "0"),
        ("SUBSCRIBE", "other"),
    ],
    ids=" ".join,
)
async def test_the_shipped_acl_refuses_what_nobody_needs(
    guarded: tuple[RedisServer, Any], command: tuple[str, ...]
) -> None:
    server, _ = guarded
    client = connect(settings_for(server.url, redis_username="arriero", redis_password=SecretStr(PASSWORD)))
    with pytest.raises(ResponseError, match=r"(?i)no permissions|ACL failure|can't access"):
        await client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py 5
    await client.aclose(close_connection_pool=True)


# -- Cancelling -----------------------------------------------------------------------------------


async def test_a_loop_of_calls_can_be_cancelled_at_any_moment(redis_url: str) -> None:
    """Before Python 3.12, asyncio.wait_for, and with it stock redis-py, loses a cancellation now and then."""
    client = connect(settings_for(redis_url), max_connections=4)

    async def for_ever() -> None:
        while True:
            await client.ping()

    for turns in range(60):
        task = asyncio.create_task(for_ever())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=2)
        assert done, f"cancelled after {turns} turns of the loop, it ran on"
    await client.aclose(close_connection_pool=True)
