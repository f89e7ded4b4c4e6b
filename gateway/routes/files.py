"""OpenAI's files, as far as batches need them: requests come as one, answers are read as one."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.answers import json_response
from gateway.batches.model import Batch, BatchNotFound, FileNotFound, Progress, is_batch_id, is_file_id, output_of
from gateway.batches.outputs import advanced, output
from gateway.batches.store import StoredFile
from gateway.late_stream import LateStream
from gateway.request import GatewayRequest
from gateway.route_table import Role, Route
from gateway.routes.batch_bodies import FileForm, PageQuery
from shared.errors import BadRequest, PayloadTooLarge, RequestTimeout, UnsupportedMediaType
from shared.wire.openai_validation import validate

FORM = "multipart/form-data"
PURPOSE = "batch"
MOST_PARTS = 16
MOST_FIELD_BYTES = 1024
READ_BYTES = 64 * 1024
BROKEN_FORM = (
    *(web.RequestPayloadError, web.PayloadAccessError, HttpProcessingError),
    *(ValueError, AssertionError, RuntimeError),
)
"""What aiohttp raises for a form without a boundary, without an end, or with headers that are none."""
JSON_LINES = "application/jsonl"


def file_body(file: StoredFile, purpose: str = PURPOSE) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size,
        "created_at": file.created_at,
        "expires_at": file.expires_at,
        "filename": file.filename,
        "purpose": purpose,
        "status": "processed",
    }


async def upload(request: GatewayRequest) -> web.Response:
    services, tenant = request.services, request.caller.tenant
    # A page could send a form from any site without asking the browser's leave first.
    if "Origin" in request.headers and "Access-Control-Allow-Origin" not in request.cors_headers:
        raise UnsupportedMediaType("Web pages of other origins send no files here.")
    if request.content_type != FORM or "Content-Encoding" in request.headers:
        raise UnsupportedMediaType("Send a form: Content-Type multipart/form-data, with `purpose` and `file`.")
    try:
        async with asyncio.timeout(services.settings.body_timeout):
            filename, data = await _read_form(request, services.files.limits.max_bytes)
    except TimeoutError:
        raise RequestTimeout(f"The file was not complete after {services.settings.body_timeout:g} s.") from None
    return json_response(file_body(await services.files.put(tenant, filename, data)))


async def _read_form(request: GatewayRequest, most: int) -> tuple[str, bytes]:
    """The file of a form, by its name. Raises BadRequest and PayloadTooLarge."""
    fields: dict[str, str] = {}
    file: tuple[str, bytes] | None = None
    try:
        form = await request.multipart()
        for _ in range(MOST_PARTS):
            part = await form.next()
            if part is None:
                break
            if not isinstance(part, BodyPartReader):
                raise BadRequest("The form has a form in it.")
            if part.name == "file":
                file = (part.filename or "batch.jsonl")[:255], await _read_part(part, most)
            else:
                fields[part.name or ""] = (await _read_part(part, MOST_FIELD_BYTES)).decode(errors="replace")
    except BROKEN_FORM:
        raise BadRequest("The form is broken off or badly framed.") from None
    if fields.get("purpose") != PURPOSE:
        raise BadRequest(f"`purpose`: is {PURPOSE} here; other files have no use.", param="purpose")
    if file is None or not file[1]:
        raise BadRequest("`file`: is required, and not empty.", param="file")
    return file


async def _read_part(part: BodyPartReader, most: int) -> bytes:
    blocks: list[bytes] = []
    size = 0
    while block := await part.read_chunk(READ_BYTES):
        size += len(block)
        if size > most:
            raise PayloadTooLarge(f"`{(part.name or '')[:64]}`: is larger than {most} bytes.", param=part.name)
        blocks.append(block)
    return b"".join(blocks)


async def batch_of(request: GatewayRequest, batch_id: str) -> tuple[Batch, Progress]:
    """The caller's batch as it is now. Raises BatchNotFound, alike for another tenant's and for none."""
    services = request.services
    found = await services.batches.get(request.caller.tenant, batch_id) if is_batch_id(batch_id) else None
    if found is None:
        raise BatchNotFound()
    batch, progress = found
    return batch, await advanced(services.queue, services.batches, batch, progress)


async def _output_of(request: GatewayRequest, file_id: str) -> tuple[Batch, Progress, bool] | None:
    """The batch whose output the caller names, and whether it is that of the errors; None for a file that was sent.
    Raises FileNotFound."""
    if (named := output_of(file_id)) is None:
        if is_file_id(file_id):
            return None
        raise FileNotFound()
    try:
        batch, progress = await batch_of(request, named[0])
    except BatchNotFound:
        raise FileNotFound() from None
    if not progress.is_over:
        raise FileNotFound()
    return batch, progress, named[1]


async def show(request: GatewayRequest) -> web.Response:
    services, file_id = request.services, request.match_info["file_id"]
    found = await _output_of(request, file_id)
    if found is None:
        return json_response(file_body(await services.files.get(request.caller.tenant, file_id)))
    batch, progress, errors = found
    size = sum([len(piece) async for piece in output(services.queue, batch, progress, errors=errors)])
    name = f"{batch.id}_{'errors' if errors else 'output'}.jsonl"
    file = StoredFile(
        id=file_id, filename=name, size=size, created_at=progress.ended_at, expires_at=batch.kept_until
    )  # fmt: skip
    return json_response(file_body(file, "batch_output"))


class LineFile(LateStream):
    content_type = JSON_LINES


async def content(request: GatewayRequest) -> web.StreamResponse:
    services, file_id = request.services, request.match_info["file_id"]
    tenant = request.caller.tenant
    found = await _output_of(request, file_id)
    if found is None:
        data = await services.files.read(tenant, await services.files.get(tenant, file_id))
        return web.Response(body=data, content_type=JSON_LINES)
    batch, progress, errors = found
    stream = LineFile(request)
    try:
        async for piece in output(services.queue, batch, progress, errors=errors):
            await stream.write(piece)
        return await stream.close()
    finally:
        stream.release()


async def listing(request: GatewayRequest) -> web.Response:
    query = validate(PageQuery, dict(request.query))
    files = await request.services.files.list(request.caller.tenant)
    ids = [file.id for file in files]
    start = ids.index(query.after) + 1 if query.after in ids else 0
    page = files[start : start + query.limit]
    more = start + len(page) < len(files)
    return json_response({"object": "list", "data": [file_body(file) for file in page], "has_more": more})


async def delete(request: GatewayRequest) -> web.Response:
    file_id = request.match_info["file_id"]
    if await _output_of(request, file_id) is not None:
        raise BadRequest("A batch's output goes with the batch; it takes no room of its own.")
    await request.services.files.delete(request.caller.tenant, file_id)
    return json_response({"id": file_id, "object": "file", "deleted": True})


_ONE = "/v1/files/{file_id}"
ROUTES = [
    Route(
        method="POST",
        path="/v1/files",
        handler=upload,
        role=Role.INFERENCE,
        summary="Send a file of requests",
        tag="Batches",
        body=FileForm,
        body_type=FORM,
        answers={200: "File"},
        errors=(408, 413, 415),
    ),
    Route(
        method="GET",
        path="/v1/files",
        handler=listing,
        role=Role.INFERENCE,
        summary="List the files sent",
        tag="Batches",
        query=PageQuery,
        answers={200: "FileList"},
    ),
    Route(
        method="GET",
        path=_ONE,
        handler=show,
        role=Role.INFERENCE,
        summary="Look up a file",
        tag="Batches",
        answers={200: "File"},
    ),
    Route(
        method="GET",
        path=_ONE + "/content",
        handler=content,
        role=Role.INFERENCE,
        summary="Read a file, such as a batch's output",
        tag="Batches",
        answers={200: JSON_LINES},
    ),
    Route(
        method="DELETE",
        path=_ONE,
        handler=delete,
        role=Role.INFERENCE,
        summary="Delete a file",
        tag="Batches",
        answers={200: "DeletedFile"},
    ),
]
