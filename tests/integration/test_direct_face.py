"""The direct face over real processes: gateway, worker, simulator, Redis."""

from __future__ import annotations

import json
import secrets

import httpx
import pytest

from tests.integration.stack import Stack


@pytest.mark.req("S0-05", "S0-07", "S0-10", "S0-12", "S0-13")
def test_a_prompt_goes_through_the_queue_to_a_listed_worker(client: httpx.Client, stack: Stack) -> None:
    (usable,) = client.get("/workers").json()["workers"]
    models = client.get(f"/workers/{usable['worker_type']}/models").json()["models"]
    model = next(one["model_id"] for one in models if one["model_id"].startswith("mistral"))
    body = {"prompt": "Why do llamas hum?", "worker_type": usable["worker_type"], "model_id": model}
    response = client.post("/generate", json=body)
    assert response.status_code == 200
    answer = response.json()
    assert answer["success"] is True
    assert answer["response"]
    assert (answer["worker_type"], answer["model_id"]) == ("local_llm", model)
    assert answer["metadata"]["generation_time"] > 0
    assert answer["metadata"]["tokens_used"] > 0
    assert len(stack.simulator.calls(response.headers["x-arriero-job-id"])) == 1


@pytest.mark.req("S0-17", "S0-18")
def test_two_gateways_remember_the_same_conversation(stack: Stack) -> None:
    body = {"message": "My name is Inti. [tokens=5]", "conversation_id": secrets.token_hex(8)}
    first = httpx.post(f"{stack.gateways[0].url}/chat", json=body, timeout=20, trust_env=False).json()
    assert first["remembered"] is True
    body["message"] = "What is it? [tokens=5]"
    stream = httpx.post(f"{stack.gateways[1].url}/chat/stream", json=body, timeout=20, trust_env=False).text
    _, _, data = stream.rpartition("event: done\ndata: ")
    second = json.loads(data)
    assert second["remembered"] is True
    # Both answers have five tokens, so the rest is what the model was given to read.
    assert second["metadata"]["tokens_used"] > first["metadata"]["tokens_used"]
