"""A model server that costs almost nothing, so that what is measured is the road to it.

Speaks Ollama's `/api/chat`, `/api/tags`, `/api/ps`, `/api/show`, `/api/version` and OpenAI's `/v1/chat/completions`,
plain and streamed, with canned answers; and `/api/embed`, one call at a time of 20 ms each. The model's name says how
it answers a chat:

    noop        one short answer
    paced-N     N tokens, one every 5 ms (200 tokens/s), the first at once
    slow-N      N tokens, one every 2 s
    flat-N      N tokens as fast as the connection takes them

The tokens are "tok a " and "tok b " in turn, so a client counts tokens by counting "tok ". They differ because LiteLLM
takes a stream that repeats itself for a model gone mad and ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import re
from dataclasses import dataclass
from typing import cast

import uvloop

TOKENS = ("tok a ", "tok b ")
TOKEN_INTERVALS_S = {"paced": 0.005, "slow": 2.0}
EMBEDDER = "embed"
MODELS = ("noop", "paced-20", "paced-600", "slow-30", "flat-250", EMBEDDER)
"""What `/api/tags` lists; any other count works too."""
_MODEL = re.compile(rb'"(?:model|name)"\s*:\s*"([^"]*)"')
_STREAM = re.compile(rb'"stream"\s*:\s*(true|false)')
_LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"transfer-encoding:\s*chunked", re.IGNORECASE)
_PLAN = re.compile(r"(noop|paced|slow|flat)(?:-(\d+))?(?::latest)?$")
EMBED_S = 0.02
_VECTOR = json.dumps([round((number % 97 - 48) / 1000, 3) for number in range(768)])
_CREATED = "2026-01-01T00:00:00Z"
_LAST_CHUNK = b"0\r\n\r\n"


@dataclass(slots=True, frozen=True)
class StreamParts:
    """The encoded pieces of a streamed answer."""

    head: bytes
    tokens: tuple[bytes, bytes]
    end: bytes


def plan(model: str) -> tuple[str, int]:
    """How a model answers: its manner and how many tokens."""
    found = _PLAN.match(model)
    if found is None:
        return "noop", 1
    return found[1], int(found[2] or 1)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _response(body: bytes, content_type: str = "application/json") -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@functools.lru_cache(maxsize=256)
def whole_answer(path: str, model: str) -> bytes:
    """The response to a request that did not ask for a stream."""
    _, count = plan(model)
    text = ("".join(TOKENS) * count)[: len(TOKENS[0]) * count]
    if path.startswith("/v1/"):
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 8, "completion_tokens": count, "total_tokens": 8 + count}
        body = {"id": "chatcmpl-stub", "object": "chat.completion", "created": 1767225600, "model": model}
        return _response(json.dumps({**body, "choices": [choice], "usage": usage}).encode())
    return _response(json.dumps(_ollama_end(model, count, text)).encode())


@functools.lru_cache(maxsize=256)
def streamed_answer(path: str, model: str) -> StreamParts:
    """The pieces of the response to a request that asked for a stream."""
    _, count = plan(model)
    if path.startswith("/v1/"):
        base = {"id": "chatcmpl-stub", "object": "chat.completion.chunk", "created": 1767225600, "model": model}

        def event(delta: dict[str, str], finish: str | None) -> bytes:
            choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
            return b"data: " + json.dumps({**base, "choices": choices}).encode() + b"\n\n"

        first, second = (_chunk(event({"role": "assistant", "content": token}, None)) for token in TOKENS)
        end = _chunk(event({}, "stop") + b"data: [DONE]\n\n") + _LAST_CHUNK
        return StreamParts(_stream_head("text/event-stream"), (first, second), end)

    def line(content: str) -> bytes:
        message = {"role": "assistant", "content": content}
        return json.dumps({"model": model, "created_at": _CREATED, "message": message, "done": False}).encode() + b"\n"

    first, second = (_chunk(line(token)) for token in TOKENS)
    end = _chunk(json.dumps(_ollama_end(model, count, "")).encode() + b"\n") + _LAST_CHUNK
    return StreamParts(_stream_head("application/x-ndjson"), (first, second), end)


def _stream_head(content_type: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n".encode()


def _ollama_end(model: str, count: int, text: str) -> dict[str, object]:
    """The last object of an Ollama chat; durations in nanoseconds."""
    return {
        "model": model,
        "created_at": _CREATED,
        "message": {"role": "assistant", "content": text},
        "done": True,
        "done_reason": "stop",
        "total_duration": 2_000_000,
        "load_duration": 1_000_000,
        "prompt_eval_count": 8,
        "prompt_eval_duration": 500_000,
        "eval_count": count,
        "eval_duration": 500_000,
    }


@functools.lru_cache(maxsize=64)
def small_answer(path: str) -> bytes:
    """The GET routes, `/api/show`, and whatever else is asked."""
    details = {"format": "gguf", "family": "stub", "parameter_size": "1B", "quantization_level": "F16"}
    loaded = {"size_vram": 0, "expires_at": "2036-01-01T00:00:00Z", "context_length": 4096}
    model = {"modified_at": _CREATED, "size": 1_000_000, "digest": "0" * 64, "details": details}
    if path == "/api/version":
        body: dict[str, object] = {"version": "0.33.0"}
    elif path in ("/api/tags", "/api/ps"):
        extra = loaded if path == "/api/ps" else {}
        names = [f"{name}:latest" for name in MODELS]
        body = {"models": [{"name": name, "model": name, **model, **extra} for name in names]}
    elif path == "/api/show":
        body = {"details": details, "model_info": {}, "capabilities": ["completion"], "modified_at": _CREATED}
    elif path == "/v1/models":
        body = {"object": "list", "data": [{"id": name, "object": "model", "owned_by": "stub"} for name in MODELS]}
    else:
        body = {}
    return _response(json.dumps(body).encode())


class Embedder:
    """Serves one call at a time, as Ollama does for embedding models; a call takes as long for one text as for many."""

    def __init__(self) -> None:
        self._slot = asyncio.Lock()

    async def answer(self, body: bytes) -> bytes:
        """The body of the answer to `/api/embed`."""
        asked = json.loads(body)
        texts = 1 if isinstance(asked["input"], str) else len(asked["input"])
        async with self._slot:
            await asyncio.sleep(EMBED_S)
        vectors = ",".join([_VECTOR] * texts)
        return f'{{"model":"{asked["model"]}","embeddings":[{vectors}],"prompt_eval_count":{8 * texts}}}'.encode()


class StubConnection(asyncio.Protocol):
    """One keep-alive connection; requests are answered in the order they come."""

    def __init__(self, loop: asyncio.AbstractEventLoop, embedder: Embedder) -> None:
        self._loop = loop
        self._embedder = embedder
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._ticking: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's TCP transport is one in all but its class.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._ticking is not None:
            self._ticking.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head, body_at = self._buffer[:end], end + 4
            if _CHUNKED.search(head):
                # Only the model's name and `stream` are read from a body, so the chunk framing may stay in it.
                last = self._buffer.find(_LAST_CHUNK, body_at)
                if last < 0:
                    return
                body_end = last + len(_LAST_CHUNK)
            else:
                length = _LENGTH.search(head)
                body_end = body_at + (int(length[1]) if length else 0)
                if len(self._buffer) < body_end:
                    return
            body, self._buffer = self._buffer[body_at:body_end], self._buffer[body_end:]
            self._answer(head.split(b" ", 2)[1].decode(), body)

    def _answer(self, path: str, body: bytes) -> None:
        assert self._transport is not None
        if path == "/api/embed":
            self._ticking = self._loop.create_task(self._embed(body))
            return
        if path not in ("/api/chat", "/v1/chat/completions"):
            self._transport.write(small_answer(path))
            return
        named, streamed = _MODEL.search(body), _STREAM.search(body)
        model = named[1].decode() if named else "noop"
        # Ollama streams unless told not to, OpenAI only when asked.
        if (streamed[1] == b"true") if streamed else path == "/api/chat":
            self._stream(streamed_answer(path, model), *plan(model))
        else:
            self._transport.write(whole_answer(path, model))

    async def _embed(self, body: bytes) -> None:
        self._write(_response(await self._embedder.answer(body)))

    def _stream(self, parts: StreamParts, manner: str, count: int) -> None:
        assert self._transport is not None
        if interval_s := TOKEN_INTERVALS_S.get(manner):
            self._ticking = self._loop.create_task(self._tick(parts, count, interval_s))
        else:
            pairs, odd = divmod(count, 2)
            self._transport.write(parts.head + b"".join(parts.tokens) * pairs + parts.tokens[0] * odd + parts.end)

    async def _tick(self, parts: StreamParts, count: int, interval_s: float) -> None:
        """Write a token at each multiple of the interval from the start, so that lateness does not add up."""
        start = self._loop.time()
        self._write(parts.head + parts.tokens[0])
        for number in range(1, count + 1):
            await asyncio.sleep(max(0.0, start + number * interval_s - self._loop.time()))
            self._write(parts.tokens[number % 2] if number < count else parts.end)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


async def serve(port: int) -> None:
    """Answer on loopback until cancelled."""
    loop, embedder = asyncio.get_running_loop(), Embedder()
    server = await loop.create_server(lambda: StubConnection(loop, embedder), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args().port))
