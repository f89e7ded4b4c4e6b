"""What a server of OpenAI's dialect sends, and backends for it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

from shared.backends.base import Backend, CallTimeouts
from shared.backends.openai_compatible import OpenAICompatibleBackend
from shared.services.config import ServiceConfig
from shared.wire.canonical import ChatRequest, Delta, Finish, Message, Usage
from tests.shared.backends.scripted_server import Reply, Script, whole

TIMEOUTS = CallTimeouts(connect_s=2, first_byte_s=5, gap_s=5, total_s=10)
KEY = "sk-or-v1-abcdef0123456789"
ASK = ChatRequest(model="vendor/model", messages=[Message(role="user", content="hi")])
CHAT = "/v1/chat/completions"
MARK = b"data: [DONE]\n\n"
STOPPED = Finish(reason="stop", usage=Usage())

Make = Callable[..., OpenAICompatibleBackend]


@contextlib.asynccontextmanager
async def backends(server_url: str) -> AsyncIterator[Make]:
    """Makes backends for a server, which end with the block: `preset`, `url` and fields of the configuration."""
    async with AsyncExitStack() as ending:

        def made(preset: str = "llamacpp", url: str = "", **fields: Any) -> OpenAICompatibleBackend:
            url = url or f"{server_url}/v1"
            service = ServiceConfig.model_validate({"name": preset, "urls": [url], **fields})
            backend = OpenAICompatibleBackend(service, url)
            ending.push_async_callback(backend.aclose)
            return backend

        yield made


async def chat(backend: Backend, request: ChatRequest = ASK, timeouts: CallTimeouts = TIMEOUTS) -> list[Delta | Finish]:
    return [item async for item in backend.chat(request, request_id="job_7", timeouts=timeouts)]


def chunk(content: str = "", reason: str | None = None) -> bytes:
    body = {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": reason}]}
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


def events(*parts: bytes, end: str = "clean") -> Script:
    """A script that sends each part as it is, then ends clean, cut, or hangs."""

    async def run(reply: Reply) -> None:
        await reply.head(content_type="text/event-stream; charset=utf-8")
        for part in parts:
            await reply.chunk(part)
        if end == "hang":
            await reply.gone.wait()
        await reply.end() if end == "clean" else reply.cut()

    return run


def answer(content: str = "ok", **message: Any) -> Script:
    """A script that answers in one piece."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": "stop"}
    return whole(json.dumps({"choices": [choice]}).encode())


def listing(*models: Any) -> Script:
    return whole(json.dumps({"object": "list", "data": models}).encode())
