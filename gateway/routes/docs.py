"""The API description, and a page to read and try it. Everything the page needs comes from here."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from gateway.request import GatewayRequest
from gateway.route_table import Role, Route
from shared.envelope import JSON
from shared.errors import RouteNotFound

STATIC = Path(__file__).resolve().parent.parent / "static"
CONTENT_SECURITY_POLICY = (
    # Swagger UI sets styles from scripts and has its icons in data: URLs; nothing is fetched from elsewhere.
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'"
)
FILES = {
    "docs.js": STATIC / "docs.js",
    "swagger-ui.css": STATIC / "vendor" / "swagger-ui.css",
    "swagger-ui-bundle.js": STATIC / "vendor" / "swagger-ui-bundle.js",
}


async def openapi(request: GatewayRequest) -> web.Response:
    return web.Response(body=request.services.openapi, content_type=JSON)


def _enabled(request: GatewayRequest) -> None:
    if not request.services.settings.serves_docs:
        raise RouteNotFound("The documentation page is off on this gateway; DOCS_ENABLED=true turns it on.")


def _guarded(path: Path) -> web.FileResponse:
    return web.FileResponse(
        path, headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY, "X-Content-Type-Options": "nosniff"}
    )


async def page(request: GatewayRequest) -> web.FileResponse:
    _enabled(request)
    return _guarded(STATIC / "docs.html")


async def page_file(request: GatewayRequest) -> web.FileResponse:
    _enabled(request)
    path = FILES.get(request.match_info["file"])
    if path is None:
        raise RouteNotFound()
    return _guarded(path)


ROUTES = [
    Route(
        method="GET",
        path="/openapi.json",
        handler=openapi,
        role=Role.PUBLIC,
        summary="This description",
        tag="Documentation",
        answers={200: "application/json"},
    ),
    Route(
        method="GET",
        path="/docs",
        handler=page,
        role=Role.PUBLIC,
        summary="A page to read and try this API",
        tag="Documentation",
        answers={200: "text/html"},
        errors=(404,),
    ),
    Route(
        method="GET",
        path="/docs/{file}",
        handler=page_file,
        role=Role.PUBLIC,
        summary="What the page is made of",
        tag="Documentation",
        answers={200: "application/octet-stream"},
        errors=(404,),
    ),
]
