"""What a route says about itself: who may call it, what it takes and what it answers.

The routers list `Route`s; `app.py` registers them, the auth middleware reads `role`, and `openapi.py` writes the API
description from the same list, so none of the three can disagree with the others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from aiohttp import web
from pydantic import BaseModel

from gateway.request import GatewayRequest
from shared.api_keys import Role as Role


class ErrorForm(StrEnum):
    """Whose form errors have; the value names their schema."""

    OPENAI = "Error"
    OLLAMA = "OllamaError"
    DIRECT = "DirectError"
    ANTHROPIC = "AnthropicError"


_FORMS = {
    "api": ErrorForm.OLLAMA,
    "generate": ErrorForm.DIRECT,
    "chat": ErrorForm.DIRECT,
    "workers": ErrorForm.DIRECT,
    "templates": ErrorForm.DIRECT,
}


def is_anthropic(path: str) -> bool:
    """Whether the path is Anthropic's, served or not; it may have a query."""
    return path.startswith("/v1/messages") and path[12:13] in ("", "/", "?")


def error_form(path: str) -> ErrorForm:
    """The form of errors on this path, served or not: its first segment tells, within /v1 its second."""
    if is_anthropic(path):
        return ErrorForm.ANTHROPIC
    return _FORMS.get(path.removeprefix("/").partition("/")[0], ErrorForm.OPENAI)


Handler = Callable[[GatewayRequest], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method on one path. `path` is in aiohttp's form: `/v1/jobs/{job_id}`, `/v1/models/{model:.+}`."""

    method: str
    path: str
    handler: Handler
    role: Role
    summary: str
    tag: str
    description: str = ""
    body: type[BaseModel] | None = None
    """The body's model; None: the route takes no body."""
    body_type: str = "application/json"
    """The body's media type."""
    query: type[BaseModel] | None = None
    """One field a query parameter."""
    headers: tuple[str, ...] = ()
    """Request headers the route reads, e.g. `Idempotency-Key`; `openapi.py` knows their texts."""
    answers: Mapping[int, str] = field(default_factory=dict)
    """Status -> what comes with it: a schema name of `openapi.py` (`ChatCompletion`), a media type (`text/plain`),
    several joined by ` | ` (`ChatCompletion | text/event-stream`), or the empty string for no body."""
    errors: tuple[int, ...] = ()
    """Error statuses of the route's own, e.g. 404. Those every route of its kind can give are added by `openapi.py`."""

    @property
    def refuses_bodies(self) -> bool:
        """Whether it is an operator's order that is whole without a body: one sent along would narrow it, or try it
        out, to no effect."""
        return self.body is None and self.method not in ("GET", "HEAD") and self.role in (Role.OPERATOR, Role.ADMIN)
