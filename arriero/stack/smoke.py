"""The first chat: one job through the whole road, streamed to the terminal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from arriero.client import AsyncClient
from arriero.errors import ApiError, ArrieroClientError, JobFailed
from arriero.models import Chunk, Ended, Job, Queued, Restart, Started
from arriero.models_on_offer import first_chat_model
from arriero.stack.terminal import Terminal
from shared.api_keys import Role, as_key_store, create_key, list_keys, revoke_key
from shared.queue.connection import connect
from shared.settings import BaseServiceSettings

PROMPT = "Say hello in one sentence."
KEY_KNOWN_WITHIN_S = 5.0


class NoModel(Exception):
    """The model server is there, but has no model that can chat."""


@asynccontextmanager
async def api_key(settings: BaseServiceSettings, configured: str) -> AsyncIterator[str]:
    """The configured key; else none where the gateway asks for none; else one that lives only for the smoke chat."""
    redis = connect(settings, max_connections=2)
    try:
        store = as_key_store(redis)
        if configured or not await list_keys(store, settings.queue_shard):
            yield configured
            return
        text, record = await create_key(
            store,
            settings.queue_shard,
            tenant="default",
            role=Role.INFERENCE,
            name="arriero up: first chat",
            expires_in_s=300,
        )
        try:
            yield text
        finally:
            await revoke_key(store, settings.queue_shard, record.id)
    finally:
        await redis.aclose()


async def first_chat(terminal: Terminal, gateway_url: str, key: str, model: str, timeout_s: float) -> tuple[str, float]:
    """Model asked and seconds taken. Raises NoModel, TimeoutError, and the client's errors."""
    async with AsyncClient(gateway_url, key or None) as client, asyncio.timeout(timeout_s):
        model = model or await _model(client)
        terminal.say(f"One chat through the queue ({model}): {PROMPT}")
        began = time.monotonic()
        request = {"model": model, "messages": [{"role": "user", "content": PROMPT}]}
        job = await client.enqueue("chat.completion", request, priority="high")
        ended = await _stream(terminal, client, job)
        return model, ended - began


async def _stream(terminal: Terminal, client: AsyncClient, job: Job) -> float:
    terminal.write("  > ")
    async for event in client.stream(job.id):
        match event:
            case Chunk():
                terminal.write(event.text.replace("\n", "\n  > "))
            case Restart():
                terminal.write("\n  (started over)\n  > ")
            case Ended():
                terminal.write("\n")
                if not event.job.succeeded:
                    raise JobFailed(event.job)
            case Queued() | Started():
                pass
    return time.monotonic()


async def _model(client: AsyncClient) -> str:
    give_up_at = time.monotonic() + KEY_KNOWN_WITHIN_S
    while True:
        try:
            found = first_chat_model(await client.request("GET", "/v1/models"))
            break
        except ApiError as exc:
            # A key made a moment ago is not known to the gateway yet.
            if exc.status != 401 or time.monotonic() > give_up_at:
                raise
        await asyncio.sleep(0.2)
    if not found:
        raise NoModel
    return found


def why(exc: BaseException) -> str:
    if isinstance(exc, TimeoutError):
        return "it took too long"
    return str(exc) if isinstance(exc, ArrieroClientError) else repr(exc)
