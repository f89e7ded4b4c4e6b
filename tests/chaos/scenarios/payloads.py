"""F24: bodies at the size limit and far beyond it, many idle connections, and a gateway short of file descriptors."""

from __future__ import annotations

import asyncio
import json
import resource
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from urllib.parse import urlsplit

from tests.chaos.campaign import Bench, Campaign, bench
from tests.chaos.checker import check
from tests.chaos.client import Sent, ask, body_of
from tests.chaos.outcome import Outcome, percentile
from tests.chaos.resources import MemoryLog, open_files
from tests.chaos.stack import Gateway, until

LIMIT = 1024 * 1024
"""MAX_BODY_BYTES, as it is by default."""
SIZES: dict[str, tuple[int, int]] = {
    "1 byte": (1, 400),
    "limit - 1": (LIMIT - 1, 202),
    "limit": (LIMIT, 202),
    "limit + 1": (LIMIT + 1, 413),
}
"""Bytes of a body, and the status it gets."""
ENDLESS, BLOCK = 64 * LIMIT, 64 * 1024
READ_AT_MOST = 2 * LIMIT + 8 * LIMIT
"""Of an endless body: the limit, and what both ends' kernels and a lingering close swallow."""
HEAD_TIMEOUT_S = 6.0
FEW_FILES, CROWD = 256, 400
BASE_MIB, CONNECTION_MIB = 150.0, 64 / 1024
ANSWER_WITHIN_S = 2.0
PROBES = 10


async def run(campaign: Campaign) -> Outcome:
    idle = campaign.size(2000, 500)
    outcome = Outcome("F24", "sizes of bodies, idle connections, few file descriptors")
    async with bench(campaign, "F24", gateway_env={"HEADER_TIMEOUT": str(HEAD_TIMEOUT_S)}) as b:
        stack = b.stack
        gateway, poor, _ = await asyncio.gather(stack.start_gateway(), stack.start_gateway(), stack.start_worker())
        async with MemoryLog(stack.processes, period_s=0.1) as memory:
            campaign.say("bodies of all sizes")
            wrong = [fault for name in SIZES if (fault := await _size(b, gateway, name))]
            status, taken = await _endless(gateway)
            campaign.say(f"{idle} idle connections")
            slowest, closed_s = await _idle(b, gateway, idle)
            peak = memory.peak(gateway.process)
        campaign.say(f"a gateway with {FEW_FILES} file descriptors")
        held, again_s = await _few_files(b, poor)
        report = await check(stack, b.sent, b.sampler, b.oracle, gateway_url=gateway.url)
    report.expect("bodies", wrong)
    outcome.none("bodies of 1 byte, limit -1, +0, +1: another status", len(SIZES), len(wrong))
    outcome.add("64 MiB in chunks: status", 1, status, "413", status == 413)
    outcome.add("the same: bytes taken before the refusal", 1, f"{taken / LIMIT:.1f} MiB",
                f"<= {READ_AT_MOST / LIMIT:.0f} MiB", taken <= READ_AT_MOST)  # fmt: skip
    outcome.within(f"answers beside {idle} idle connections, slowest", PROBES, slowest, ANSWER_WITHIN_S)
    outcome.within("idle connections closed by the gateway", idle, closed_s, HEAD_TIMEOUT_S + 6.0)
    allowed = BASE_MIB + idle * CONNECTION_MIB
    outcome.add("gateway's memory, peak", idle, f"{peak:.0f} MiB", f"<= {allowed:.0f} MiB", peak <= allowed)
    outcome.some(f"{FEW_FILES} descriptors, {CROWD} connections: turned away", CROWD, CROWD - held)
    outcome.within("the crowd gone: it serves again", 1, again_s, 5.0)
    outcome.add_report(report)
    return outcome


def _padded(size: int) -> tuple[bytes, Sent]:
    """A job's body of exactly so many bytes, if it can be that short; else one byte that is no JSON."""
    bare = json.dumps(body_of("job", "F24 [tokens=5] ")).encode()
    if size < len(bare):
        return b"{" * size, Sent(form="job", prompt="")
    prompt = "F24 [tokens=5] " + "x" * (size - len(bare))
    return json.dumps(body_of("job", prompt)).encode(), Sent(form="job", prompt=prompt)


async def _size(b: Bench, gateway: Gateway, name: str) -> str:
    """What is wrong with the answer to a body of this size."""
    size, wanted = SIZES[name]
    body, sent = _padded(size)
    assert len(body) == size
    headers = {"Content-Type": "application/json"}
    async with b.stack.http.post(gateway.url + "/v1/jobs", data=body, headers=headers) as response:
        answer = await response.json()
        sent.status = response.status
    if response.status == 202:
        sent.accepted, sent.job_id = True, answer["id"]
        # A prompt that large has no place in the model's context; that the job is taken and ends is all that is asked.
        b.sent.append(sent)
    return "" if response.status == wanted else f"{name}: {response.status} {answer}"


async def _endless(gateway: Gateway) -> tuple[int, int]:
    """Send 64 MiB in chunks: (status, bytes that could be sent until the answer was there)."""
    place = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
    status = asyncio.create_task(reader.readline())
    sent = 0
    with suppress(ConnectionError):
        while sent < ENDLESS and not status.done():
            writer.write(f"{BLOCK:x}\r\n".encode() + b" " * BLOCK + b"\r\n")
            await writer.drain()
            sent += BLOCK
            await asyncio.sleep(0)
    line = await asyncio.wait_for(status, 10.0)
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return int(line.split(b" ")[1]), sent


@asynccontextmanager
async def _connections(gateway: Gateway, count: int) -> AsyncIterator[list[asyncio.StreamReader]]:
    """Open connections that say nothing."""
    place = urlsplit(gateway.url)
    async with AsyncExitStack() as exit_:
        readers = []
        for _ in range(count):
            reader, writer = await asyncio.open_connection(place.hostname, place.port)
            exit_.callback(writer.close)
            readers.append(reader)
        yield readers


async def _idle(b: Bench, gateway: Gateway, count: int) -> tuple[float, float]:
    """(slowest answer meanwhile, seconds until the gateway had closed the last of them)."""
    began = time.monotonic()
    async with _connections(gateway, count) as readers:
        probes = [Sent(form="chat", prompt=f"F24 probe {number} [tokens=20]") for number in range(PROBES)]
        b.sent += probes
        for one in probes:
            await ask(b.stack.http, gateway.url, one)
        await asyncio.wait_for(asyncio.gather(*(reader.read() for reader in readers), return_exceptions=True), 60.0)
    return percentile([one.seconds for one in probes], 1.0), time.monotonic() - began


async def _few_files(b: Bench, gateway: Gateway) -> tuple[int, float]:
    """Connect more clients than it may have files: (connections it held, seconds until it served again afterwards)."""
    resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE, (FEW_FILES, FEW_FILES))
    async with _connections(gateway, CROWD):
        await asyncio.sleep(1.0)
        held = min(open_files(gateway.process), CROWD)
        if not gateway.process.is_running:
            raise RuntimeError(f"the gateway died: {gateway.process.last_words()}")
    left_at = time.monotonic()

    async def serves() -> bool:
        one = Sent(form="chat", prompt="F24 after the crowd [tokens=5]")
        b.sent.append(await ask(b.stack.http, gateway.url, one))
        return one.complete

    await until(serves, 20.0, "the gateway serves again")
    return held, time.monotonic() - left_at
