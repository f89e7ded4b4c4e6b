"""F13: clients that go away in the middle of a stream, and clients that read far too slowly."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.chaos.campaign import Bench, Campaign, bench
from tests.chaos.checker import check
from tests.chaos.client import body_of, job
from tests.chaos.outcome import Outcome, percentile
from tests.chaos.resources import MemoryLog, open_files
from tests.chaos.stack import until

AT_ONCE = 25
LONG = 2000
"""Tokens of an answer that takes 10 s: whoever leaves it, leaves it unfinished."""
CANCELLED_WITHIN_S = 2.0
FILES_MARGIN = 5
SLOW_BYTES_PER_S = 100
SLOW_BUFFER = 4096
SLOW_TOKENS = 8000
"""40 s of answer, about 2 MB of stream: far more than the kernel takes in for a reader with so small a buffer."""
SLOW_FOR_S = 20.0
BASE_MIB, STREAM_MIB = 150.0, 64 / 1024
"""A gateway's memory: so much, and so much more for each open stream."""
KEPT_EVERY = 10
"""One in so many of those who leave has sent an Idempotency-Key: its job goes on."""
ABORT = struct.pack("ii", 1, 0)
"""SO_LINGER that makes a close a reset."""
PER_SECOND = 4.0


@dataclass(slots=True)
class Departures:
    """Who left when, Unix seconds by job id; and the jobs that go on all the same."""

    left_at: dict[str, float] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)


@asynccontextmanager
async def raw_stream(
    url: str, prompt: str, *, key: str = "", receive_buffer: int = 0
) -> AsyncIterator[tuple[str, socket.socket]]:
    """Ask for a stream on a socket of our own; (job id, socket) once its first bytes have come. Closed afterwards."""
    loop = asyncio.get_running_loop()
    place = urlsplit(url)
    body = json.dumps(body_of("stream", prompt)).encode()
    head = [
        "POST /v1/chat/completions HTTP/1.1",
        f"Host: {place.netloc}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *([f"Idempotency-Key: {key}"] if key else []),
    ]
    with socket.socket() as connection:
        connection.setblocking(False)
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await loop.sock_connect(connection, (place.hostname, place.port))
        await loop.sock_sendall(connection, "\r\n".join([*head, "", ""]).encode() + body)
        answer = b""
        while b"\ndata: " not in answer:
            block = await loop.sock_recv(connection, 256)
            if not block:
                raise ConnectionError(f"no stream: {answer[:200]!r}")
            answer += block
        ids = [line.split(b": ")[1] for line in answer.split(b"\r\n") if line.lower().startswith(b"x-arriero-job-id")]
        yield ids[0].decode(), connection


async def run(campaign: Campaign) -> Outcome:
    leavers, readers = campaign.size(500, 50), campaign.size(50, 10)
    outcome = Outcome("F13", f"clients leave mid-stream, others read {SLOW_BYTES_PER_S} B/s")
    departures, slow_ids = Departures(), []
    async with bench(campaign, "F13", worker_env={"WORKER_CONCURRENCY": "64"}) as b:
        stack = b.stack
        gateway, _ = await asyncio.gather(stack.start_gateway(), stack.start_workers(2))
        async with b.load(PER_SECOND):
            await asyncio.sleep(2.0)
        base = open_files(gateway.process)
        async with MemoryLog(stack.processes, period_s=0.25) as memory:
            async with b.load(PER_SECOND):
                for start in range(0, leavers, AT_ONCE):
                    campaign.say(f"{start} of {leavers} clients have left")
                    wave = [_leave(b, number, departures) for number in range(start, min(start + AT_ONCE, leavers))]
                    await asyncio.gather(*wave)
                campaign.say(f"{readers} slow readers")
                before = memory.peak(gateway.process)
                slow_ids = await asyncio.gather(*(_read_slowly(b, number) for number in range(readers)))

            async def released() -> bool:
                return open_files(gateway.process) <= base + FILES_MARGIN

            await until(released, 15.0, f"the gateway is back at {base} open files")
            files = open_files(gateway.process)
            peak = memory.peak(gateway.process)
        report = await check(stack, b.sent, b.sampler, b.oracle, gateway_url=gateway.url)
        ended = {
            call["request_id"]: call["at"] + call["seconds"]
            for call in await stack.call_log()
            if call["cancelled"] and call["seconds"] is not None
        }
        kept = {job_id: await job(stack.http, gateway.url, job_id) for job_id in departures.kept}
    report.expect("not cancelled", [i for i in departures.left_at if report.records[i].state != "cancelled"])
    report.expect("cancelled in the queue, not upstream", [i for i in departures.left_at if i not in ended])
    broken = [i for i, body in kept.items() if body["status"] != "succeeded"]
    report.expect("kept by its key, but not run to its end", broken)
    delays = [ended[i] - left_at for i, left_at in departures.left_at.items() if i in ended]
    stopped = sum(report.records[i].state == "cancelled" for i in slow_ids)
    report.expect("still run for a slow reader who left", [i for i in slow_ids if i not in ended])
    allowed = BASE_MIB + readers * STREAM_MIB
    outcome.within("client gone to call broken off upstream, slowest", len(delays), max(delays, default=99.0),
                   CANCELLED_WITHIN_S)  # fmt: skip
    outcome.tell("the same, p50", len(delays), f"{percentile(delays, 0.5):.2f} s")
    outcome.none("left with an Idempotency-Key, and not run to the end", len(kept), len(broken))
    outcome.add("gateway's open files afterwards", leavers + readers, files, f"{base} +-{FILES_MARGIN}",
                abs(files - base) <= FILES_MARGIN)  # fmt: skip
    outcome.add("gateway's memory, peak", readers, f"{peak:.0f} MiB", f"<= {allowed:.0f} MiB", peak <= allowed)
    outcome.tell("the same before there was a slow reader", readers, f"{before:.0f} MiB")
    outcome.add("jobs of slow readers, cancelled when they left", readers, stopped, str(readers), stopped == readers)
    outcome.add_report(report)
    return outcome


async def _leave(b: Bench, number: int, departures: Departures) -> None:
    """Begin a stream and go away in the middle of it, politely or with a reset."""
    key = f"F13-{number}" if number % KEPT_EVERY == 0 else ""
    tokens = 100 if key else LONG
    prompt = f"F13 question of one who leaves {number} [tokens={tokens}]"
    async with raw_stream(b.stack.gateways[0].url, prompt, key=key) as (job_id, connection):
        await asyncio.sleep(b.draw.uniform(0.0, 0.3))
        if number % 2:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        if key:
            departures.kept.add(job_id)
        else:
            departures.left_at[job_id] = time.time()


async def _read_slowly(b: Bench, number: int) -> str:
    """Read a stream at 100 B/s for a while, then leave. The job's id."""
    loop = asyncio.get_running_loop()
    prompt = f"F13 question of a slow reader {number} [tokens={SLOW_TOKENS}]"
    stream = raw_stream(b.stack.gateways[0].url, prompt, receive_buffer=SLOW_BUFFER)
    async with stream as (job_id, connection):
        leaves_at = loop.time() + SLOW_FOR_S
        while loop.time() < leaves_at:
            await loop.sock_recv(connection, SLOW_BYTES_PER_S // 2)
            await asyncio.sleep(0.5)
    return job_id
