"""The API description and its page: served from here, fetching nothing from elsewhere, vendored files unchanged."""

from __future__ import annotations

import hashlib
import re

from gateway.routes.docs import STATIC
from tests.gateway.conftest import Served, StartGateway

VENDOR = STATIC / "vendor"


async def test_the_page_is_whole_and_keeps_to_itself(served: Served) -> None:
    page = await served.http.get("/docs")
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    wanted = re.findall(r'(?:src|href)="(/[^"]+)"', page.text)
    assert len(wanted) >= 4
    for path in wanted:
        assert (await served.http.get(path)).status_code == 200, path
    assert not re.search(r"https?://", page.text)
    assert (await served.http.get("/docs/README.md")).status_code == 404
    assert (await served.http.get("/docs/..%2fapp.py")).status_code == 404


async def test_the_page_can_be_switched_off(start_gateway: StartGateway) -> None:
    served = await start_gateway(docs_enabled="false")
    assert (await served.http.get("/docs")).status_code == 404
    assert (await served.http.get("/openapi.json")).status_code == 200


def test_vendored_files_are_the_ones_we_took() -> None:
    rows = dict(re.findall(r"\| `([^`]+)` \| `([0-9a-f]{64})` \|", (VENDOR / "README.md").read_text()))
    files = {path.name for path in VENDOR.iterdir()} - {"README.md"}
    assert set(rows) == files
    for name, digest in rows.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name


async def test_every_described_path_answers(served: Served) -> None:
    described = (await served.http.get("/openapi.json")).json()
    assert described["openapi"].startswith("3.1")
    for path, operations in described["paths"].items():
        if "{" not in path and "get" in operations:
            assert (await served.http.get(path)).status_code != 404, path


async def test_unknown_paths_and_methods_get_the_envelope(served: Served) -> None:
    missing = await served.http.get("/v2/nothing")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "route_not_found")
    wrong = await served.http.put("/v1/models")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "GET"
