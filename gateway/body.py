"""Reading a request body within limits of size, time and form."""

from __future__ import annotations

import asyncio
import functools
from typing import TypeVar

from aiohttp import web
from msgspec import Struct
from msgspec.json import Decoder
from pydantic import BaseModel, ConfigDict

from gateway.request import GatewayRequest
from gateway.request_options import IDEMPOTENCY_HEADER
from gateway.route_table import Handler
from shared.errors import BadRequest, PayloadTooLarge, RequestTimeout, UnsupportedMediaType
from shared.wire.json_body import parse_json
from shared.wire.openai_plain import read_plain
from shared.wire.openai_validation import validate

P = TypeVar("P", bound=Struct)


def check_form(request: GatewayRequest, *, any_type: bool = False) -> None:
    """Refuse, before anything is read, what would be refused afterwards. Raises UnsupportedMediaType.

    `any_type`: JSON under another name will do, such as what `curl -d` sends; but not from a web page, which could send
    it from any site without asking the browser's leave first.
    """
    headers = request.headers
    if "Content-Encoding" in headers:
        raise UnsupportedMediaType("Send the body uncompressed: Content-Encoding is not accepted.")
    if headers.get("Content-Type") == "application/json":
        return  # what most clients send; the header need not be taken apart
    if request.content_type != "application/json" and not (any_type and "Origin" not in headers):
        raise UnsupportedMediaType("Send the body as JSON, with the header `Content-Type: application/json`.")
    charset = request.charset
    if charset is not None and charset.lower().replace("_", "-") not in ("utf-8", "utf8"):
        raise UnsupportedMediaType("Send the body in UTF-8.")


def body_at_hand(request: GatewayRequest) -> bytes | None:
    """The raw body, if it is here as a whole: mostly it comes in one packet with its head. Raises PayloadTooLarge."""
    content = request.content
    if not content.is_eof():
        return None
    body = content.read_nowait()
    if len(body) > (limit := request.services.settings.max_body_bytes):
        raise _too_large(limit)
    return body


async def read_body(request: GatewayRequest) -> bytes:
    """The raw body. Raises PayloadTooLarge, RequestTimeout, BadRequest for a body that breaks off."""
    body = body_at_hand(request)
    if body is not None:
        return body
    settings, content = request.services.settings, request.content
    limit = settings.max_body_bytes
    announced = request.content_length
    if announced is not None and announced > limit:
        raise _too_large(limit)
    blocks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(settings.body_timeout):
            while block := await content.readany():
                size += len(block)
                if size > limit:
                    raise _too_large(limit)
                blocks.append(block)
                # aiohttp parses on inside `readany`, so a flood of tiny chunks would never let anyone else run.
                await asyncio.sleep(0)
    except TimeoutError:
        raise RequestTimeout(f"The body was not complete after {settings.body_timeout:g} s.") from None
    except (web.RequestPayloadError, web.PayloadAccessError):
        raise BadRequest("The request body is broken off or badly framed.") from None
    return b"".join(blocks)


async def read_json(request: GatewayRequest, *, any_type: bool = False) -> object:
    """The JSON body, parsed strictly. Raises what `check_form`, `read_body` and `parse_json` raise."""
    check_form(request, any_type=any_type)
    return parse_json(await read_body(request))


async def read_plain_or_json(request: GatewayRequest, plain: Decoder[P] | None) -> tuple[P | None, object]:
    """The body in its plain form (see `shared.wire.openai_plain`) if it has one, else None and its JSON.

    Raises what `read_json` raises.
    """
    check_form(request)
    body = body_at_hand(request)
    if body is None:
        body = await read_body(request)
    # With a key the JSON counts: it tells a repetition from another request.
    if plain is not None and IDEMPOTENCY_HEADER not in request.headers:
        value = read_plain(plain, body)
        if value is not None:
            return value, None
    return None, parse_json(body)


class NoBody(BaseModel):
    """The body of a call that takes none."""

    model_config = ConfigDict(extra="forbid")


def bodiless(handler: Handler) -> Handler:
    """The handler, for requests with no body, or `{}`. Others raise BadRequest that names what was said, and what
    `read_body` and `parse_json` raise."""

    @functools.wraps(handler)
    async def without_body(request: GatewayRequest) -> web.StreamResponse:
        if body := await read_body(request):
            validate(NoBody, parse_json(body))
        return await handler(request)

    return without_body


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The request body is larger than {limit} bytes (MAX_BODY_BYTES).")
