"""A TCP proxy that makes a connection bad: slow, cut, silent. In the manner of toxiproxy, switchable while it runs.

async with Proxy(port) as proxy:               # listens on `proxy.port`, passes everything on
    proxy.poison(down=Toxics(latency_s=0.2))   # from now on, also on connections that are open already
    proxy.heal()
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, NoReturn, Self

READ_BYTES = 65536
IN_FLIGHT = 64  # pieces on their way in one direction of a connection; then its sender feels it
RESET = struct.pack("ii", 1, 0)  # as SO_LINGER: closing sends a reset
Direction = Literal["up", "down"]


@dataclass(slots=True, frozen=True, kw_only=True)
class Toxics:
    """What is wrong with one direction. A piece is what one read gives: a command or a reply, if it is short."""

    latency_s: float = 0.0
    jitter_s: float = 0.0
    """Each piece takes latency +- jitter longer, in order."""
    blackhole: bool = False
    """Nothing arrives until this is over; then all does, as after a partition. New connections are silent too."""
    reset_share: float = 0.0
    """Of the pieces, those that break their connection."""
    slice_bytes: int = 0
    """A piece goes out in writes of so many bytes."""
    bytes_per_s: float = 0.0
    cut_after_bytes: int = 0
    """A connection breaks when it has carried so many."""


CLEAN = Toxics()


class Broken(Exception):
    """This connection is to break now."""


class Proxy:
    """Listens on a free port of 127.0.0.1 and passes on to `target_port`. `up` is towards the target."""

    def __init__(self, target_port: int, draw: random.Random | None = None) -> None:
        self.port = 0
        self.broken = 0  # connections that `reset_share` or `cut_after_bytes` broke
        self._target_port = target_port
        self._draw = draw or random.Random(1)
        self._toxics: dict[Direction, Toxics] = {"up": CLEAN, "down": CLEAN}
        self._changed = asyncio.Event()
        self.connections: set[asyncio.Task[None]] = set()

    def poison(self, *, up: Toxics = CLEAN, down: Toxics = CLEAN) -> None:
        """From now on, on open connections too. A direction left out is clean."""
        self._toxics = {"up": up, "down": down}
        self._changed.set()
        self._changed = asyncio.Event()

    def heal(self) -> None:
        self.poison()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in self.connections:
            connection.cancel()
        await asyncio.gather(*self.connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._connect(reader, writer))
        self.connections.add(task)
        task.add_done_callback(self.connections.discard)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            target_reader, target = await asyncio.open_connection("127.0.0.1", self._target_port)
            ends.append(target)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump("up", reader, target))
                both.create_task(self._pump("down", target_reader, writer))
            for end in ends:
                end.close()
        except* (OSError, Broken):
            for end in ends:
                with suppress(OSError):  # closed already
                    end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        finally:
            for end in ends:
                if not end.is_closing():
                    end.transport.abort()

    async def _pump(self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one direction to its end. Reading goes on while earlier pieces are still being held up."""
        loop = asyncio.get_running_loop()
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(IN_FLIGHT)

        async def read() -> None:
            piece = b"-"
            while piece:
                piece = await reader.read(READ_BYTES)
                toxics = self._toxics[direction]
                delay_s = toxics.latency_s + self._draw.uniform(-1.0, 1.0) * toxics.jitter_s
                await on_the_way.put((loop.time() + delay_s, piece))

        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            carried = 0
            while True:
                due, piece = await on_the_way.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                while self._toxics[direction].blackhole:
                    await self._changed.wait()
                if not piece:
                    break
                await self._deliver(piece, carried, writer, self._toxics[direction])
                carried += len(piece)
        with suppress(OSError):  # the other end may have gone meanwhile
            writer.write_eof()

    async def _deliver(self, piece: bytes, carried: int, writer: asyncio.StreamWriter, toxics: Toxics) -> None:
        if self._draw.random() < toxics.reset_share:
            self._break()
        whole = len(piece)
        if toxics.cut_after_bytes:
            piece = piece[: max(0, toxics.cut_after_bytes - carried)]
        for start in range(0, len(piece), size := toxics.slice_bytes or READ_BYTES):
            writer.write(part := piece[start : start + size])
            await writer.drain()
            await asyncio.sleep(len(part) / toxics.bytes_per_s if toxics.bytes_per_s else 0)
        if len(piece) < whole:
            self._break()

    def _break(self) -> NoReturn:
        self.broken += 1
        raise Broken
