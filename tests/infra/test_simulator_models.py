"""Listing, showing, copying, deleting and pulling models."""

from __future__ import annotations

import asyncio
import time

from tests.infra.conftest import Start
from tests.infra.simulator_api import Api


async def test_the_small_routes(api: Api) -> None:
    root = await api.get("/")
    assert (root.status, root.body) == (200, b"Ollama is running")
    assert (await api.get("/api/version")).json["version"]
    assert (await api.call("HEAD", "/api/version")).status == 200


async def test_tags_lists_what_is_installed_with_capabilities(api: Api) -> None:
    models = {model["name"]: model for model in (await api.get("/api/tags")).json["models"]}
    assert "llama3.2:latest" in models and len(models["llama3.2:latest"]["digest"]) == 64
    assert "tools" in models["llama3.2:latest"]["capabilities"]
    assert models["nomic-embed-text:latest"]["capabilities"] == ["embedding"]
    assert "thinking" in models["qwen3:latest"]["capabilities"] and "vision" in models["llava:latest"]["capabilities"]


async def test_show_tells_architecture_and_lengths(api: Api) -> None:
    shown = (await api.post("/api/show", {"model": "nomic-embed-text"})).json
    assert shown["model_info"]["nomic.embedding_length"] == 768 and shown["capabilities"] == ["embedding"]
    assert (await api.post("/api/show", {"model": "nope"})).json == {"error": "model 'nope' not found"}


async def test_a_copy_shares_the_runner_of_its_source(api: Api) -> None:
    copied = await api.post("/api/copy", {"source": "llama3.2", "destination": "mine"})
    assert (copied.status, copied.body) == (200, b"")
    await api.chat()
    await api.chat(model="mine")
    assert len(await api.events("load")) == 1
    missing = await api.post("/api/copy", {"source": "nope", "destination": "x"})
    assert (missing.status, missing.json) == (404, {"error": 'model "nope" not found'})


async def test_a_deleted_model_is_gone_but_stays_loaded(api: Api) -> None:
    await api.chat()
    deleted = await api.call("DELETE", "/api/delete", {"model": "llama3.2"})
    assert (deleted.status, deleted.body) == (200, b"")
    assert (await api.chat()).status == 404 and await api.loaded() == ["llama3.2:latest"]
    assert (await api.call("DELETE", "/api/delete", {"model": "llama3.2"})).status == 404


async def test_what_is_not_simulated_says_so(api: Api) -> None:
    reply = await api.post("/api/push", {"model": "llama3.2"})
    assert reply.status == 501 and "not simulated" in reply.json["error"]


async def test_a_pull_tells_its_progress_and_installs(start: Start) -> None:
    api = await start(pull_seconds=0.3)
    lines = (await api.post("/api/pull", {"model": "phi3"})).lines
    assert lines[0] == {"status": "pulling manifest"} and lines[-1] == {"status": "success"}
    weights = [line for line in lines if line.get("total", 0) > 1_000_000]
    assert len(weights) >= 4 and "completed" not in weights[0]
    done = [line.get("completed", 0) for line in weights]
    assert done == sorted(done) and done[-1] == weights[-1]["total"]
    assert weights[0]["status"] == "pulling " + weights[0]["digest"].removeprefix("sha256:")[:12]
    assert (await api.chat(model="phi3")).status == 200


async def test_an_unknown_name_fails_after_a_200_or_with_a_500_when_not_streamed(api: Api) -> None:
    streamed = await api.post("/api/pull", {"model": "no-such-model"})
    error = {"error": "pull model manifest: file does not exist"}
    assert (streamed.status, streamed.lines) == (200, [{"status": "pulling manifest"}, error])
    whole = await api.post("/api/pull", {"model": "no-such-model", "stream": False})
    assert (whole.status, whole.json) == (500, error)


async def test_a_pull_goes_on_where_it_was_left(start: Start) -> None:
    api = await start(pull_seconds=0.06, registry="acme/thing")
    seen: list[int] = []
    async for _, line in api.timed_lines("/api/pull", {"model": "slow-phi"}):
        seen.append(line.get("completed", 0))
        if seen[-1] > line.get("total", 1) * 0.3:
            break
    async for _, line in api.timed_lines("/api/pull", {"model": "slow-phi"}):
        if "total" in line:
            assert line["completed"] >= seen[-1]
            break
    assert (await api.post("/api/pull", {"model": "acme/thing", "stream": False})).json == {"status": "success"}


async def test_two_watchers_share_one_download(start: Start) -> None:
    api = await start(pull_seconds=0.6)
    started = time.perf_counter()
    both = await asyncio.gather(*(api.post("/api/pull", {"model": "phi3"}) for _ in range(2)))
    assert [reply.lines[-1] for reply in both] == [{"status": "success"}] * 2
    assert 0.5 < time.perf_counter() - started < 1.5


async def test_tags_shows_newest_first(start: Start) -> None:
    api = await start(pull_seconds=0)
    await api.post("/api/pull", {"model": "phi3"})
    assert (await api.get("/api/tags")).json["models"][0]["name"] == "phi3:latest"
