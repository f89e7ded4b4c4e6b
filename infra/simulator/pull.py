"""/api/pull: downloads that are shared, go on where they stopped, and tell how far they are."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from infra.simulator.catalogue import Catalogue, Model, make_model
from infra.simulator.exchange import Exchange
from infra.simulator.failures import ApiError
from infra.simulator.names import full_name, stem
from infra.simulator.native_requests import field, model_named
from infra.simulator.settings import SimulatorSettings
from infra.simulator.wire import LineStream, send_whole, strike_stream

TICK_S = 0.06
SLOW_PREFIX, SLOW_FACTOR = "slow-", 10.0
UNKNOWN_TEXT = "pull model manifest: file does not exist"
_SMALL_LAYER_BYTES = (1429, 58, 485)
"""Template, parameters, configuration: what real models have besides their weights."""
# fmt: off
WELL_KNOWN = frozenset({
    "all-minilm", "bge-m3", "codellama", "deepseek-r1", "gemma", "gemma2", "gemma3", "gpt-oss", "llama2", "llama3",
    "llama3.1", "llama3.2", "llama3.2-vision", "llama3.3", "llava", "mistral", "mixtral", "moondream",
    "mxbai-embed-large", "nomic-embed-text", "phi", "phi3", "phi4", "qwen", "qwen2.5", "qwen2.5-coder", "qwen2.5vl",
    "qwen3", "snowflake-arctic-embed", "tinyllama",
})
# fmt: on


@dataclass(slots=True)
class Layer:
    """A part of a download. `done_bytes` stays when nobody watches, and the next pull goes on from there."""

    digest: str
    total_bytes: int
    done_bytes: int = 0
    advanced_at: float = 0.0

    def advance(self, bytes_per_s: float, now: float) -> None:
        """Count what came in since the last look of any watcher; a longer gap means that nobody was downloading."""
        gap_s = now - self.advanced_at
        # Two watchers of one layer look twice per tick, but share its progress.
        self.done_bytes += int(min(gap_s, 2 * TICK_S) * bytes_per_s) if self.advanced_at else 0
        self.done_bytes = min(self.total_bytes, self.done_bytes)
        self.advanced_at = now

    def progress(self) -> dict[str, Any]:
        line: dict[str, Any] = {
            "status": f"pulling {self.digest[:12]}",
            "digest": f"sha256:{self.digest}",
            "total": self.total_bytes,
        }
        return {**line, "completed": self.done_bytes} if self.done_bytes else line


class Pulls:
    """Downloads by model, and the route that shows them."""

    def __init__(self, settings: SimulatorSettings, catalogue: Catalogue) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._registry = frozenset(full_name(name) for name in (*settings.registry, *settings.models))
        self._layers: dict[str, list[Layer]] = {}

    def reset(self) -> None:
        """Forget what was downloaded in part."""
        self._layers.clear()

    async def pull(self, x: Exchange) -> web.StreamResponse:
        """POST /api/pull"""
        name = model_named(x.body)
        full = full_name(name)
        if not field(x.body, "stream", bool, True):
            last: dict[str, Any] = {}
            async for last in self._progress(full):
                if "error" in last:
                    raise ApiError(500, last["error"])
            return await send_whole(x, msgspec.json.encode(last), charset="utf-8")
        out = LineStream(x, "application/x-ndjson")
        sent = 0
        async for progress in self._progress(full):
            line = msgspec.json.encode(progress) + b"\n"
            if x.fault is not None and sent == x.fault.strike_at:
                broken = msgspec.json.encode({"error": "max retries exceeded: unexpected EOF"}) + b"\n"
                if not await strike_stream(x, x.fault, out, line, broken):
                    break
            if x.fault is not None and x.fault.kind == "drip":
                await asyncio.sleep(0.5 if x.fault.delay_seconds is None else x.fault.delay_seconds)
            await out.write(line)
            sent += 1
        return await out.end()

    async def _progress(self, full: str) -> AsyncIterator[dict[str, Any]]:
        yield {"status": "pulling manifest"}
        if not self._can_be_pulled(full):
            yield {"error": UNKNOWN_TEXT}
            return
        installed = self._catalogue.find(full)
        model = installed or make_model(full)
        layers = self._layers.setdefault(full, _layers_of(model))
        if installed is not None:
            for layer in layers:
                layer.done_bytes = layer.total_bytes
        seconds = self._settings.pull_seconds * (SLOW_FACTOR if stem(full).startswith(SLOW_PREFIX) else 1.0)
        bytes_per_s = sum(layer.total_bytes for layer in layers) / seconds if seconds else float("inf")
        for layer in layers:
            async for _ in _watch(layer, bytes_per_s):
                yield layer.progress()
        for status in ("verifying sha256 digest", "writing manifest"):
            yield {"status": status}
        if self._catalogue.find(full) is None:
            self._catalogue.install(full)
        yield {"status": "success"}

    def _can_be_pulled(self, full: str) -> bool:
        library = full.startswith("registry.ollama.ai/library/")
        return full in self._registry or (library and (stem(full) in WELL_KNOWN or stem(full).startswith(SLOW_PREFIX)))


async def _watch(layer: Layer, bytes_per_s: float) -> AsyncIterator[None]:
    """A turn per tick until the layer is there; at least one, also for a layer that already was."""
    if layer.done_bytes < layer.total_bytes and bytes_per_s == float("inf"):
        layer.done_bytes = layer.total_bytes
    yield
    while layer.done_bytes < layer.total_bytes:
        layer.advance(bytes_per_s, time.monotonic())
        await asyncio.sleep(TICK_S)
        layer.advance(bytes_per_s, time.monotonic())
        yield


def _layers_of(model: Model) -> list[Layer]:
    sizes = (model.size_bytes, *_SMALL_LAYER_BYTES)
    return [Layer(hashlib.sha256(f"{model.name} {at}".encode()).hexdigest(), size) for at, size in enumerate(sizes)]
