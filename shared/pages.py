"""A daemon's own pages: who may call each, what they take, and how their errors look.

`/health*` and `/metrics` are open; every other page says which role it needs, and one that says nothing needs an
operator's key, since it shows the fleet. The rule is the gateway's (`shared.access`): on loopback, and until the first
key is made, all are let in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
from aiohttp import web
from redis.asyncio import Redis

from shared.access import ANYONE, Caller, KeyWatch, allowed_host_names, check_host, identify, is_loopback
from shared.api_keys import ApiKey, Role, as_key_store, list_keys
from shared.envelope import SERVER_NAME, accepted_request_id, error_response
from shared.errors import (
    ArrieroError,
    BadRequest,
    ErrorRecord,
    Forbidden,
    MethodNotAllowed,
    RouteNotFound,
    UnsupportedMediaType,
)
from shared.lifecycle import ConfigFault
from shared.telemetry.logging import logger
from shared.wire.json_body import parse_json

log = logger("pages")

CALLER = web.RequestKey("page_caller", Caller)
REQUEST_ID = web.RequestKey("page_request_id", str)
_READING = frozenset({"GET", "HEAD"})
_encode = msgspec.json.Encoder().encode
T = TypeVar("T")

Handler = Callable[[web.Request], Awaitable[object]]
"""Gives a response, or a value that is sent as JSON with status 200. Raises ArrieroError."""


def json_response(body: object, status: int = 200) -> web.Response:
    return web.Response(body=_encode(body), status=status, content_type="application/json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One method on one path, in aiohttp's form: `/models/operations/{id}`."""

    method: str
    path: str
    handler: Handler
    role: Role = Role.OPERATOR
    """The least that the caller's key must have."""


async def read_body(request: web.Request, fields: type[T], *, may_be_empty: bool = False) -> T:
    """The JSON body as `fields`, a msgspec.Struct. Raises BadRequest naming the field that does not fit."""
    raw = await request.read()
    if not raw and may_be_empty:
        raw = b"{}"
    elif request.content_type != "application/json":
        raise UnsupportedMediaType
    try:
        return msgspec.convert(parse_json(raw), fields)
    except msgspec.ValidationError as error:
        reason, _, where = str(error).partition(" - at `$")
        name = where.strip("`.") or (reason.split("`")[1] if reason.count("`") == 2 else "")
        raise BadRequest(f"The body does not fit: {reason}{f' (at `{name}`)' if where else ''}.", param=name) from None


@dataclass(slots=True)
class PageGuard:
    """The middleware of a daemon's pages. `keys` None: it has none but the open ones."""

    host: str
    keys: KeyWatch | None = None
    roles: dict[web.AbstractRoute, Role] = field(default_factory=dict)
    """What each route needs; a route that is not listed does not exist."""

    __middleware_version__ = 1

    @classmethod
    def on(cls, redis: Redis, shard: str, host: str) -> PageGuard:
        """A guard that knows the keys in Redis, for a daemon that listens on `host`."""

        async def read_keys() -> list[ApiKey]:
            return await list_keys(as_key_store(redis), shard)

        return cls(host, KeyWatch(read_keys))

    async def start(self, variable: str) -> None:
        """Begin to watch the keys. Raises ConfigFault, naming the setting `variable`, for pages that anyone could use
        from outside."""
        if self.keys is None:
            return
        await self.keys.start()
        if self.keys.none_exist and not is_loopback(self.host):
            raise ConfigFault(
                f"{variable}: {self.host} can be reached from other machines, and there is no API key. Create one "
                "with `arriero keys create --tenant <name> --role admin`, or listen on 127.0.0.1."
            )

    async def stop(self) -> None:
        if self.keys is not None:
            await self.keys.stop()

    async def __call__(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        request_id = request[REQUEST_ID] = accepted_request_id(request.headers.get("x-request-id"))
        try:
            request[CALLER] = await self._admit(request)
            response = await handler(request)
        except ArrieroError as error:
            response = _refuse(error.record(), request_id)
        except web.HTTPException as error:  # aiohttp's own, such as a body that is too large
            kind = "invalid_request_error" if error.status < 500 else "server_error"
            record = ErrorRecord(code="http_error", message=error.reason, kind=kind, http_status=error.status)
            response = _refuse(record, request_id)
        except Exception:
            log.exception("page.unexpected_error", request_id=request_id, path=request.path)
            record = ArrieroError("Something went wrong; the log has it under this request id.").record()
            response = _refuse(record, request_id)
        response.headers["x-request-id"] = request_id
        response.headers["Server"] = SERVER_NAME
        caller = request.get(CALLER)
        if caller is not None and request.method not in _READING:
            log.info(
                "page.order", request_id=request_id, method=request.method, path=request.path,
                status=response.status, tenant=caller.tenant, key_id=caller.key_id,
            )  # fmt: skip
        return response

    async def _admit(self, request: web.Request) -> Caller:
        fault = request.match_info.http_exception
        if isinstance(fault, web.HTTPMethodNotAllowed):
            raise MethodNotAllowed(f"This path takes {', '.join(sorted(fault.allowed_methods))}.")
        role = self.roles.get(request.match_info.route)
        if fault is not None or role is None:
            raise RouteNotFound("Unknown path.")
        if role is Role.PUBLIC or self.keys is None:
            return ANYONE
        on_loopback = is_loopback(self.host)
        if on_loopback:
            check_host(request.host, allowed_host_names((), self.host))
            if request.method not in _READING and "Origin" in request.headers:
                raise Forbidden("Orders do not come from a browser.")  # any web page could have it send them
        caller = await identify(request.headers, self.keys, on_loopback=on_loopback)
        if not caller.role.allows(role):
            raise Forbidden(f"This needs a key with the role {role} or higher.")
        return caller


def _refuse(record: ErrorRecord, request_id: str) -> web.Response:
    response = error_response(record, request_id)
    if record.http_status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
