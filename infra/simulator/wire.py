"""Sending answers: healthy ones whole or line by line, and damaged ones as a fault wants them."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from aiohttp import web

from infra.simulator.exchange import JSON_TYPE, Exchange, hang
from infra.simulator.failures import RUNNER_DIED_TEXT, ApiError, default_text
from infra.simulator.faults import Fault

DRIP_GAP_S = 0.5
DRIP_PIECES = 20
SPLIT_SIGN = "🦙"


class LineStream:
    """A chunked answer. Nothing, not even the status line, leaves before the first write."""

    def __init__(self, x: Exchange, content_type: str) -> None:
        self._x = x
        self.response = web.StreamResponse(headers={"Content-Type": content_type})

    async def write(self, data: bytes) -> None:
        """Raises ConnectionError when the client has gone."""
        if not self.response.prepared:
            await self.response.prepare(self._x.request)
        await self.response.write(data)

    async def end(self) -> web.StreamResponse:
        if not self.response.prepared:
            await self.response.prepare(self._x.request)
        await self.response.write_eof()
        return self.response


async def strike_stream(x: Exchange, fault: Fault, out: LineStream, line: bytes, error_line: bytes) -> bool:
    """Do a fault's damage in mid-stream, `line` being what would have come next. False: the stream is over."""
    if fault.kind == "hang":
        await hang(fault)
        return True
    if fault.kind == "cut":
        await out.write(line[: max(1, len(line) // 2)])
        await x.cut(status=200)
    if fault.kind == "status":
        # With the headers long sent, an error can only be a line.
        await out.write(error_line)
        return False
    if fault.kind == "no_done":
        return False
    if fault.kind != "garbage":
        return True
    if fault.body is not None:
        await out.write(fault.body.encode() + b"\n")
        return True
    match fault.variant:
        case "truncated_json":
            await out.write(line.rstrip()[:-2] + b"\n")
        case "nul":
            await out.write(b"\0" * 16 + b"\n")
        case "huge_line":
            await out.write(_padded(line, fault.size_bytes))
        case "error_line":
            await out.write(error_line)
            return False
        case "split_utf8":
            for part in _split_in_sign(line):
                await out.write(part)
                await asyncio.sleep(0.01)
    return True


def _padded(line: bytes, size: int) -> bytes:
    """The line with so many spaces after its first brace: still valid JSON, but no small buffer holds it."""
    head, brace, tail = line.partition(b"{")
    return head + brace + b" " * size + tail


def _split_in_sign(line: bytes) -> tuple[bytes, bytes]:
    """The line with a sign of four bytes put into its first string, broken in the midst of that sign."""
    sign = SPLIT_SIGN.encode()
    head, mark, tail = line.partition(b'"content":"')
    if not mark:
        head, mark, tail = line.partition(b'"response":"')
    if not mark:
        head, mark, tail = line.partition(b'"text":"')
    whole = head + mark + sign + tail
    at = len(head) + len(mark) + 2 if mark else len(whole) // 2
    return (whole[:at], whole[at:]) if mark else (line[:at], line[at:])


async def send_whole(
    x: Exchange, body: bytes, content_type: str = JSON_TYPE, charset: str | None = None
) -> web.StreamResponse:
    """A body in one piece, or what a fault makes of it."""
    fault = x.fault
    if fault is None:
        return web.Response(body=body, content_type=content_type, charset=charset)
    if fault.kind == "status" or (fault.kind == "garbage" and fault.variant == "error_line"):
        status = fault.status if fault.kind == "status" else 500
        raise ApiError(status, RUNNER_DIED_TEXT if status == 500 else default_text(status))
    if fault.kind == "garbage":
        body = fault.body.encode() if fault.body is not None else _damaged(body, fault)
        if fault.variant == "split_utf8":
            parts = _split_in_sign(body)
            return await _send_parts(x, parts, sum(map(len, parts)), content_type, gap_s=0.01)
        return web.Response(body=body, content_type=content_type)
    half = max(1, len(body) // 2)
    if fault.kind == "cut":
        await _send_parts(x, (body[:half],), len(body), content_type)
        await x.cut(status=200)
    if fault.kind == "hang":
        await _send_parts(x, (body[:half],), len(body), content_type)
        await hang(fault)
        await x.cut(status=200)
    if fault.kind == "drip":
        step = max(1, len(body) // DRIP_PIECES)
        pieces = tuple(body[at : at + step] for at in range(0, len(body), step))
        return await _send_parts(x, pieces, len(body), content_type, gap_s=drip_gap_s(fault))
    return web.Response(body=body, content_type=content_type)


def drip_gap_s(fault: Fault) -> float:
    return DRIP_GAP_S if fault.delay_seconds is None else fault.delay_seconds


def _damaged(body: bytes, fault: Fault) -> bytes:
    match fault.variant:
        case "truncated_json":
            return body[: max(1, len(body) // 2)]
        case "nul":
            return b"\0" * 16 + body
        case "huge_line":
            return _padded(body, fault.size_bytes)
        case "duplicate_done":
            return body + b"\n" + body
    return body


async def _send_parts(
    x: Exchange, parts: tuple[bytes, ...], length: int, content_type: str, gap_s: float = 0.0
) -> web.StreamResponse:
    """Announces `length` bytes and sends the parts, which may be fewer."""
    response = web.StreamResponse(headers={"Content-Type": content_type, "Content-Length": str(length)})
    await response.prepare(x.request)
    for at, part in enumerate(parts):
        if at and gap_s:
            await asyncio.sleep(gap_s)
        await response.write(part)
    return response


def to_json(value: dict[str, Any]) -> bytes:
    return msgspec.json.encode(value)
