"""A model of one's own, trained elsewhere: its weights are imported through the front door, and then it is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.processes import eventually
from tests.integration.stack import Stack, chat_body
from tests.manager.weights import gguf

MODEL = "house-style:1b"


@pytest.mark.req("S2-43", "S4-27")
def test_a_fine_tuned_model_is_imported_listed_and_asked(tmp_path: Path) -> None:
    (tmp_path / "tuned.gguf").write_bytes(gguf())
    with Stack(MODEL_IMPORT_DIR=str(tmp_path)) as stack:
        stack.gateway()
        stack.worker()
        stack.daemon("manager")
        stack.wait()
        with stack.http() as client:

            def names() -> set[str]:
                return {model["id"] for model in client.get("/v1/models").raise_for_status().json()["data"]}

            assert MODEL not in names()
            order = {"type": "import", "params": {"model_name": MODEL, "file": "tuned.gguf"}}
            job = client.post("/jobs", json=order)
            assert job.status_code == 202, job.text
            ended = client.get(f"/jobs/{job.json()['id']}", params={"wait": 20}).json()
            while ended["finished_at"] is None:  # it answers at each step of its progress
                ended = client.get(f"/jobs/{ended['id']}", params={"wait": 20}).json()
            assert ended["status"] == "succeeded", ended["error"]
            eventually(lambda: MODEL in names(), 20, "the model is listed")
            answer = client.post("/v1/chat/completions", json=chat_body("hello", MODEL))
        assert answer.status_code == 200, answer.text
        assert (answer.json()["model"], bool(answer.json()["choices"][0]["message"]["content"])) == (MODEL, True)
        (call,) = stack.simulator.calls(answer.headers["x-arriero-job-id"])
        assert call["model"] == MODEL
