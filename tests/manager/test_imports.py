"""Importing weights files: which may be read, and what becomes of them on the model servers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.simulator import Simulator
from manager.imports import ImportFolder
from shared.backends.gguf import NotGGUF, check_gguf
from shared.errors import BackendRejected, BadRequest, Forbidden
from shared.operations.orders import check_file
from shared.wire.operations import ModelOperation
from tests.manager.programs import ManagerProgram, simulator
from tests.manager.weights import gguf

WEIGHTS = gguf(500_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    (folder / "tiny").mkdir(parents=True)
    (folder / "tiny" / "model.gguf").write_bytes(WEIGHTS)
    (folder / "text.gguf").write_bytes(b"not weights")
    (tmp_path / "secret.gguf").write_bytes(WEIGHTS)
    (folder / "way-out.gguf").symlink_to(tmp_path / "secret.gguf")
    return folder


def order(file: str) -> ModelOperation:
    return ModelOperation(op="import", model="tiny", file=file)


@pytest.mark.parametrize("file", ["model.gguf", "tiny/model.gguf", "a b/c.GGUF", "dots..in/a..b.gguf"])
def test_paths_pass(file: str) -> None:
    check_file(order(file))


@pytest.mark.parametrize(
    "file",
    ["", "/etc/passwd", "/abs/model.gguf", "../secret.gguf", "a/../../b.gguf", "a/./b.gguf", ".hidden.gguf",
     "a//b.gguf", "a/.b/c.gguf", "model.bin", "a\\b.gguf", "a\nb.gguf", "a\0.gguf", "x" * 600 + ".gguf"],
)  # fmt: skip
def test_what_is_no_plain_path_to_weights_is_refused(file: str) -> None:
    with pytest.raises(BadRequest) as refused:
        check_file(order(file))
    assert refused.value.param == "file"


def test_only_an_import_has_a_file() -> None:
    check_file(ModelOperation(op="pull", model="phi3"))
    with pytest.raises(BadRequest, match="leave it out"):
        check_file(ModelOperation(op="pull", model="phi3", file="a.gguf"))


async def test_only_files_below_the_folder_are_read(folder: Path) -> None:
    imports = ImportFolder(str(folder))
    weights = await imports.weights("tiny/model.gguf")
    assert weights.size_bytes == len(WEIGHTS) and weights.digest.startswith("sha256:")
    for outside in ("way-out.gguf", "../secret.gguf", str(folder.parent / "secret.gguf"), "nothing.gguf", "tiny"):
        with pytest.raises(BadRequest, match="MODEL_IMPORT_DIR"):
            await imports.weights(outside)
    with pytest.raises(BackendRejected, match="does not begin with GGUF"):
        await imports.weights("text.gguf")
    with pytest.raises(Forbidden, match="MODEL_IMPORT_DIR"):
        await ImportFolder("").weights("tiny/model.gguf")


def judged(content: bytes) -> str:
    """What is wrong with a file of that content; empty if nothing is."""
    try:
        check_gguf(io.BytesIO(content), len(content))
    except NotGGUF as wrong:
        return str(wrong)
    return ""


def test_a_whole_file_is_told_from_half_a_one() -> None:
    whole = gguf(16)
    assert judged(whole) == "" and judged(gguf(0)) == ""
    header = len(whole) - 16 * 4
    assert all(judged(whole[:length]) for length in range(header - 32))
    for damaged, told in (
        (b"GGML" + whole[4:], "does not begin"),
        (whole[:4] + b"\1\1\1\1" + whole[8:], "version"),
        (whole[:16] + b"\xff" * 8 + whole[24:], "damaged"),
        (whole[:24] + b"\xff" * 8 + whole[32:], "damaged"),
        (gguf(16, architecture=""), "architecture"),
    ):
        assert told in judged(damaged)


@given(st.binary(max_size=300), st.integers(0, 400))
def test_no_bytes_are_more_than_damaged(noise: bytes, at: int) -> None:
    whole = gguf(16)
    judged(whole[:at] + noise + whole[at + len(noise) :])
    judged(noise)


async def installed(server: Simulator) -> set[str]:
    return {model.shown for model in server.catalogue.all()}


async def ended(manager: ManagerProgram, **fields: Any) -> dict[str, Any]:
    return await manager.done("/models/import", **fields)


@pytest.mark.req("S4-27", "S4-37")
async def test_a_file_becomes_a_model_on_every_host(redis_url: str, tmp_path: Path, folder: Path) -> None:
    async with simulator() as one, simulator() as other:
        settings = {"MODEL_IMPORT_DIR": str(folder)}
        async with ManagerProgram(tmp_path / "m", redis_url, one.url, other.url, **settings) as manager:
            done = await ended(manager, model="mine:1b", file="tiny/model.gguf")
            assert done["status"] == "succeeded"
            assert [host["outcome"] for host in done["result"]["hosts"]] == ["done", "done"]
            assert done["progress"]["percent"] is None or done["progress"]["percent"] <= 100
            assert "mine:1b" in await installed(one) and "mine:1b" in await installed(other)
            async with httpx.AsyncClient() as http:
                chat = {"model": "mine:1b", "stream": False, "prompt": "hi"}
                assert (await http.post(f"{one.url}/api/generate", json=chat)).status_code == 200
            # The blob is known by now, so this is a matter of the name alone.
            again = await ended(manager, model="again", file="tiny/model.gguf", host=one.url.removeprefix("http://"))
            assert again["status"] == "succeeded" and "again:latest" in await installed(one)
            for file, told in (("text.gguf", "does not begin with GGUF"), ("way-out.gguf", "MODEL_IMPORT_DIR")):
                failed = await ended(manager, model="bad", file=file)
                assert failed["status"] == "dead_lettered" and told in failed["error"]["message"]
                assert failed["attempts"] == 1
            bad = await manager.http.post("/models/import", json={"model": "x", "file": "../secret.gguf"})
            assert (bad.status_code, bad.json()["error"]["param"]) == (400, "file")


async def test_imports_are_off_until_a_folder_is_named(redis_url: str, tmp_path: Path) -> None:
    async with simulator() as server, ManagerProgram(tmp_path / "m", redis_url, server.url) as manager:
        failed = await ended(manager, model="mine", file="tiny/model.gguf")
        assert failed["status"] == "dead_lettered" and "MODEL_IMPORT_DIR" in failed["error"]["message"]
        assert "mine:latest" not in await installed(server)
