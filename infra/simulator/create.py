"""/api/blobs and /api/create: weights files as blobs, and models made of them or of other models."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import msgspec
from aiohttp import web

from infra.simulator.catalogue import Catalogue
from infra.simulator.exchange import Exchange
from infra.simulator.failures import ApiError
from infra.simulator.names import full_name
from infra.simulator.native_requests import field, model_named
from infra.simulator.wire import LineStream, send_whole

_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_MAGIC = b"GGUF"


class Creations:
    """Blobs by digest, of which only size and first bytes are kept, and the models made of them."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._blobs: dict[str, tuple[int, bytes]] = {}

    def reset(self) -> None:
        self._blobs.clear()

    async def blob(self, x: Exchange) -> web.StreamResponse:
        """HEAD asks for a blob, POST brings one."""
        digest = _hex(x.request.match_info["digest"])
        if x.request.method == "HEAD":
            return web.Response(status=200 if digest in self._blobs else 404)
        if x.request.method != "POST":
            return web.Response(text="405 method not allowed", status=405)
        hashed, size, start = hashlib.sha256(), 0, b""
        async for block in x.request.content.iter_any():
            hashed.update(block)
            size += len(block)
            start = (start + block)[: len(_MAGIC)] if len(start) < len(_MAGIC) else start
        if hashed.hexdigest() != digest:
            got = f"sha256:{hashed.hexdigest()}"
            raise ApiError(400, f'digest mismatch, expected "sha256:{digest}", got "{got}"')
        known = digest in self._blobs
        self._blobs[digest] = (size, start)
        return web.Response(status=200 if known else 201)

    async def create(self, x: Exchange) -> web.StreamResponse:
        """POST /api/create from `files` or `from`; what else a modelfile may hold is taken and not followed."""
        if not (name := model_named(x.body)):
            raise ApiError(400, "invalid model name")
        files, source = field(x.body, "files", dict, {}), field(x.body, "from", str, "")
        full_name(name)
        lines = self._lines(name, files, source)
        if field(x.body, "stream", bool, True):
            out = LineStream(x, "application/x-ndjson")
            for line in lines:
                await out.write(msgspec.json.encode(line) + b"\n")
            return await out.end()
        if error := lines[-1].get("error"):
            raise ApiError(500, error)
        return await send_whole(x, msgspec.json.encode(lines[-1]), charset="utf-8")

    def _lines(self, name: str, files: dict[str, Any], source: str) -> list[dict[str, str]]:
        """Does it at once; what a real server says meanwhile."""
        if source:
            if (model := self._catalogue.find(source)) is None:
                return [{"error": f'model "{source}" not found'}]
            self._catalogue.copy(model, name)
            return _statuses("using existing layers", "writing manifest", "success")
        if not files:
            raise ApiError(400, "neither 'from' or 'files' was specified")
        parsed = _statuses("parsing GGUF")
        for digest in files.values():
            digest = _hex(digest if isinstance(digest, str) else "")
            if digest not in self._blobs:
                return [*parsed, {"error": f"open blobs/sha256-{digest}: no such file or directory"}]
            if self._blobs[digest][1] != _MAGIC:
                return [*parsed, {"error": "unknown type"}]
        self._catalogue.install(name)
        made = [f"creating new layer sha256:{_hex(digest)}" for digest in files.values()]
        return [*parsed, *_statuses(*made, "writing manifest", "success")]


def _hex(digest: str) -> str:
    found = _DIGEST.fullmatch(digest)
    if found is None:
        raise ApiError(400, "invalid digest format")
    return found[1]


def _statuses(*texts: str) -> list[dict[str, str]]:
    return [{"status": text} for text in texts]
