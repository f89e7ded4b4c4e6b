"""The simulator's blobs and the models made of them."""

from __future__ import annotations

import hashlib

import pytest

from tests.infra.simulator_api import Api

WEIGHTS = b"GGUF" + bytes(2000)
DIGEST = f"sha256:{hashlib.sha256(WEIGHTS).hexdigest()}"


async def test_a_model_is_made_of_a_blob(api: Api) -> None:
    path = f"/api/blobs/{DIGEST}"
    assert (await api.call("HEAD", path)).status == 404
    assert [(await api.call("POST", path, WEIGHTS)).status for _ in range(2)] == [201, 200]
    assert (await api.call("HEAD", path)).status == 200
    made = (await api.post("/api/create", {"model": "mine:1b", "files": {"a.gguf": DIGEST}})).lines
    assert [line["status"] for line in made] == [
        *("parsing GGUF", f"creating new layer {DIGEST}", "writing manifest", "success"),
    ]
    assert (await api.chat(model="mine:1b")).status == 200
    again = {"model": "other", "from": "mine:1b", "stream": False}
    assert (await api.post("/api/create", again)).json == {"status": "success"}
    assert (await api.post("/api/show", {"model": "other"})).status == 200


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"files": {"a": DIGEST}}, 400, "invalid model name"),
        ({"model": "x"}, 400, "neither 'from' or 'files' was specified"),
        ({"model": "x", "files": {"a": "md5:00"}}, 400, "invalid digest format"),
        ({"model": "x", "files": {"a": DIGEST}, "stream": False}, 500, "no such file"),
        ({"model": "x", "from": "nobody", "stream": False}, 500, 'model "nobody" not found'),
    ],
)
async def test_what_cannot_be_made_says_why(api: Api, body: dict[str, object], status: int, text: str) -> None:
    reply = await api.post("/api/create", body)
    assert reply.status == status and text in reply.json["error"]


async def test_a_blob_must_be_what_its_name_says_and_weights_must_look_like_weights(api: Api) -> None:
    wrong = await api.call("POST", f"/api/blobs/{DIGEST}", b"GGUF and more")
    assert wrong.status == 400 and "digest mismatch" in wrong.json["error"]
    text = b"no weights at all"
    digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
    assert (await api.call("POST", f"/api/blobs/{digest}", text)).status == 201
    lines = (await api.post("/api/create", {"model": "x", "files": {"a.gguf": digest}})).lines
    assert lines[-1] == {"error": "unknown type"}
    assert (await api.post("/api/show", {"model": "x"})).status == 404
