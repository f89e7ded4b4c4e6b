"""Making an Ollama model of a weights file: its bytes as a blob, then a model that consists of it.

The server keeps blobs by their digest, so a file that it has already is not sent again, and a run that broke off in the
middle of an upload begins that upload anew.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from shared.backends import ollama_models, ollama_requests
from shared.backends.base import CallTimeouts
from shared.backends.call import Call
from shared.backends.gguf import NotGGUF, check_gguf
from shared.backends.http import Upstream
from shared.backends.ollama_errors import classify
from shared.backends.ollama_failure import Failure, quotable
from shared.backends.ollama_models import PullProgress
from shared.errors import BackendProtocolError, BackendRejected

CREATE = "/api/create"
BLOCK_BYTES = 1024 * 1024
LOOK_EVERY_S = 0.25
"""How often an upload tells how far it is."""
ASK_TIMEOUTS = CallTimeouts(connect_s=5.0, first_byte_s=10.0, gap_s=10.0, total_s=15.0)
UPLOAD_TIMEOUTS = CallTimeouts(connect_s=5.0, first_byte_s=21_600.0, gap_s=60.0, total_s=21_600.0)
"""The answer comes once all bytes have been sent."""
CREATE_TIMEOUTS = CallTimeouts(connect_s=5.0, first_byte_s=600.0, gap_s=600.0, total_s=3600.0)


@dataclass(frozen=True, slots=True)
class Weights:
    """A weights file on this machine. `digest` is `sha256:` and 64 hex digits."""

    path: Path
    digest: str
    size_bytes: int


def read_weights(path: Path) -> Weights:
    """The file with its digest; reads it whole, so call it in a thread. Raises BackendRejected for what is no GGUF
    file, OSError."""
    with path.open("rb") as file:
        try:
            check_gguf(file, path.stat().st_size)
        except NotGGUF as wrong:
            raise BackendRejected(f"{path.name} is no GGUF file: {wrong}.", param="file") from None
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Weights(path, f"sha256:{digest}", file.tell())


async def import_model(
    upstream: Upstream, model: str, weights: Weights, *, request_id: str = ""
) -> AsyncGenerator[PullProgress, None]:
    """Make `model` of the file; the last step is `success`. Raises BackendError, OSError for a file that went away."""
    if not await _has(upstream, weights):
        async for stage in _upload(upstream, weights, request_id):
            yield stage
    body = ollama_requests.encode({"model": model, "files": {weights.path.name: weights.digest}, "stream": True})
    call = await upstream.open("POST", CREATE, body, request_id=request_id, timeouts=CREATE_TIMEOUTS)
    try:
        await _expect(call, (200,), CREATE, model)
        while lines := await call.lines():
            for line in filter(bytes.strip, lines):
                stage = _read_stage(line, model)
                yield stage
                if stage.is_done:
                    await call.drain()
                    return
        raise BackendProtocolError("The model server ended the import without success. Import again.")
    finally:
        call.close()


async def _has(upstream: Upstream, weights: Weights) -> bool:
    path = f"/api/blobs/{weights.digest}"
    call = await upstream.open("HEAD", path, timeouts=ASK_TIMEOUTS)
    try:
        await _expect(call, (200, 404), path)
        return call.status == 200
    finally:
        call.close()


@dataclass(slots=True)
class _Blocks:
    """The file block by block; `sent_bytes` of it have been taken."""

    file: BinaryIO
    sent_bytes: int = 0

    async def read(self) -> AsyncIterator[bytes]:
        while block := await asyncio.to_thread(self.file.read, BLOCK_BYTES):
            yield block
            self.sent_bytes += len(block)


async def _upload(upstream: Upstream, weights: Weights, request_id: str) -> AsyncGenerator[PullProgress, None]:
    path = f"/api/blobs/{weights.digest}"
    with await asyncio.to_thread(weights.path.open, "rb") as file:
        blocks = _Blocks(file)

        async def send() -> None:
            call = await upstream.open(
                "POST", path, blocks.read(), content_type="application/octet-stream", request_id=request_id,
                timeouts=UPLOAD_TIMEOUTS,
            )  # fmt: skip
            try:
                await _expect(call, (200, 201), path)
            finally:
                call.close()

        sending = asyncio.create_task(send(), name="upload")
        try:
            ended = False
            while not ended:
                ended = bool((await asyncio.wait({sending}, timeout=LOOK_EVERY_S))[0])
                yield PullProgress(
                    status="uploading",
                    digest=weights.digest,
                    total_bytes=weights.size_bytes,
                    completed_bytes=blocks.sent_bytes,
                )
            await sending
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def _expect(call: Call, statuses: tuple[int, ...], path: str, model: str = "") -> None:
    if call.status not in statuses:
        raise classify(call.status, await call.error_text(), endpoint=path, model=model)


def _read_stage(line: bytes, model: str) -> PullProgress:
    try:
        error = msgspec.json.decode(line).get("error")
    except (ValueError, AttributeError, RecursionError):
        error = None
    if isinstance(error, str):
        failure = Failure(status=500, text=error, is_native=True, endpoint=CREATE, model=model, retry_after_s=None)
        raise BackendRejected(f"The model server cannot make a model of that file: {quotable(failure)}", param="file")
    return ollama_models.read_pull_line(line, model)
