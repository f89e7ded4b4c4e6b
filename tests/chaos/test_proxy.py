"""The proxy does to a connection what it says."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.chaos.proxy import Proxy, Toxics
from tests.conftest import WaitUntil

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
    writer.close()


@asynccontextmanager
async def before(serve: Serve) -> AsyncIterator[Proxy]:
    """A proxy before a server of the test's."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with Proxy(server.sockets[0].getsockname()[1], random.Random(7)) as proxy:
        yield proxy
    server.close()


@asynccontextmanager
async def connection(proxy: Proxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    yield reader, writer
    writer.close()


async def round_trip_s(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: bytes = b"hello") -> float:
    began = time.monotonic()
    writer.write(text)
    assert await reader.readexactly(len(text)) == text
    return time.monotonic() - began


async def test_everything_passes_both_ways_and_so_does_the_end() -> None:
    text = random.Random(1).randbytes(3_000_000)
    async with before(echo) as proxy, connection(proxy) as (reader, writer):
        writer.write(text)
        writer.write_eof()
        assert await reader.read() == text


async def test_latency_is_added_while_the_connection_is_open_and_taken_away_again() -> None:
    async with before(echo) as proxy, connection(proxy) as (reader, writer):
        await round_trip_s(reader, writer)
        proxy.poison(down=Toxics(latency_s=0.3, jitter_s=0.1))
        assert await round_trip_s(reader, writer) >= 0.2
        proxy.poison(up=Toxics(latency_s=0.3), down=Toxics(latency_s=0.3))
        assert await round_trip_s(reader, writer) >= 0.6
        proxy.poison(down=Toxics(latency_s=30.0))
        proxy.heal()
        assert await round_trip_s(reader, writer) < 30.0


async def test_what_is_on_its_way_is_delayed_side_by_side_and_in_order() -> None:
    async with before(echo) as proxy, connection(proxy) as (reader, writer):
        proxy.poison(up=Toxics(latency_s=0.2, jitter_s=0.2))
        began = time.monotonic()
        for number in range(20):
            writer.write(b"%03d" % number)
            await asyncio.sleep(0.01)
        assert await reader.readexactly(60) == b"".join(b"%03d" % number for number in range(20))
        assert time.monotonic() - began < 20 * 0.2


async def test_a_blackhole_holds_back_what_was_sent_until_it_is_over() -> None:
    async with before(echo) as proxy, connection(proxy) as (reader, writer):
        await round_trip_s(reader, writer)
        proxy.poison(up=Toxics(blackhole=True), down=Toxics(blackhole=True))
        writer.write(b"late")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(4), 0.2)
        async with connection(proxy) as (new_reader, new_writer):
            new_writer.write(b"new")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(new_reader.readexactly(3), 0.2)
            proxy.heal()
            assert await new_reader.readexactly(3) == b"new"
        assert await reader.readexactly(4) == b"late"


async def test_what_a_client_sent_before_it_gave_up_still_arrives(wait_until: WaitUntil) -> None:
    arrived: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.append(await reader.read())
        writer.close()

    async with before(note) as proxy:
        proxy.poison(up=Toxics(blackhole=True))
        async with connection(proxy) as (_, writer):
            writer.write(b"stale")
        await asyncio.sleep(0.1)
        assert not arrived
        proxy.heal()
        await wait_until(lambda: arrived == [b"stale"], description="the late command")


async def test_a_share_of_the_pieces_resets_their_connection() -> None:
    resets = 0
    async with before(echo) as proxy:
        proxy.poison(down=Toxics(reset_share=0.2))
        for _ in range(100):
            async with connection(proxy) as (reader, writer):
                try:
                    await round_trip_s(reader, writer)
                except (ConnectionResetError, asyncio.IncompleteReadError):
                    resets += 1
        assert proxy.broken == resets
        assert 5 <= resets <= 40


async def test_a_reset_is_one_and_not_an_orderly_end() -> None:
    async with before(echo) as proxy, connection(proxy) as (reader, writer):
        proxy.poison(down=Toxics(reset_share=1.0))
        writer.write(b"hello")
        with pytest.raises(ConnectionResetError):
            await reader.read()


async def test_slices_arrive_one_by_one_and_whole() -> None:
    sizes: list[int] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            sizes.append(len(piece))
        writer.write(b"%d" % sum(sizes))
        writer.close()

    async with before(note) as proxy, connection(proxy) as (reader, writer):
        proxy.poison(up=Toxics(slice_bytes=1))
        writer.write(b"x" * 500)
        writer.write_eof()
        assert await reader.read() == b"500"
    assert len(sizes) > 50


async def test_bandwidth_is_bounded() -> None:
    async with before(echo) as proxy, connection(proxy) as (reader, writer):
        proxy.poison(down=Toxics(bytes_per_s=10_000, slice_bytes=100))
        assert await round_trip_s(reader, writer, b"x" * 5000) >= 0.4


async def test_a_connection_breaks_after_its_limit() -> None:
    async with before(echo) as proxy:
        proxy.poison(down=Toxics(cut_after_bytes=8))
        for _ in range(2):
            async with connection(proxy) as (reader, writer):
                await round_trip_s(reader, writer)
                writer.write(b"world")
                assert await reader.readexactly(3) == b"wor"
                with pytest.raises(ConnectionResetError):
                    await reader.read()
        assert proxy.broken == 2


async def test_a_target_that_is_away_resets_the_client(unused_tcp_port: int) -> None:
    async with Proxy(unused_tcp_port) as proxy, connection(proxy) as (reader, writer):
        writer.write(b"hello")
        with pytest.raises(ConnectionResetError):
            await reader.read()
