"""Routing over real processes: three services, each a simulator of its own, behind one gateway and one worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.stack import Simulator, Stack

PRIVATE = "The patient sleeps. [tokens=3]"


@dataclass
class Road:
    """`lab` is a service of ours, `cloud` one that is not; both speak OpenAI's dialect."""

    client: httpx.Client
    ollama: Simulator
    lab: Simulator
    cloud: Simulator

    def chat(self, model: str, text: str = "hi [tokens=3]", **headers: str) -> httpx.Response:
        body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}]}
        return self.client.post("/v1/chat/completions", json=body, headers=headers)

    def callers(self) -> dict[str, int]:
        """Inference calls that each service has seen."""
        return {
            name: _calls(simulator)
            for name, simulator in (("ollama", self.ollama), ("lab", self.lab), ("cloud", self.cloud))
        }


def _calls(simulator: Simulator) -> int:
    answer = httpx.get(f"{simulator.url}/_sim/calls", params={"event": "call"}, trust_env=False).raise_for_status()
    return sum(call["path"] not in ("/api/tags", "/v1/models") for call in answer.json()["calls"])


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    folder: Path = tmp_path_factory.mktemp("services")
    lab = Simulator(folder / "lab", ("--models", "phi4"))
    cloud = Simulator(folder / "cloud", ("--models", "big"))
    services = {
        "lab": {"api_format": "openai", "urls": [f"{lab.url}/v1"], "local": True},
        "cloud": {
            "api_format": "openai",
            "urls": [f"{cloud.url}/v1"],
            "api_key": "sk-0123456789abcdef",
            "default_model": "big",
        },
    }
    (folder / "lab").mkdir()
    (folder / "cloud").mkdir()
    try:
        lab.start()
        cloud.start()
        with Stack(SERVICES=json.dumps(services)) as stack:
            stack.gateway()
            stack.worker()
            stack.wait()
            with stack.http() as client:
                yield Road(client, stack.simulator, lab, cloud)
    finally:
        lab.stop()
        cloud.stop()


@pytest.mark.req("S2-07", "S2-08", "S2-09", "S2-10", "S3-05", "S3-06", "S3-40", "S4-45", "S4-51", "C7")
@pytest.mark.parametrize(
    ("model", "headers", "service"),
    [
        ("llama3.2", {}, "ollama"),
        ("lab~phi4", {}, "lab"),
        ("lab:phi4", {}, "lab"),
        ("phi4", {}, "lab"),
        ("phi4", {"x-arriero-provider": "lab"}, "lab"),
        ("cloud~big", {}, "cloud"),
        ("auto", {}, "ollama"),
    ],
)
def test_a_name_reaches_its_service_and_no_other(road: Road, model: str, headers: dict[str, str], service: str) -> None:
    before = road.callers()
    response = road.chat(model, **headers)
    assert response.status_code == 200, response.text
    assert response.headers["x-arriero-route"].startswith(f"{service}~")
    assert response.headers["x-arriero-service"] == service
    assert response.json()["choices"][0]["message"]["content"]
    assert response.json()["usage"]["completion_tokens"] == 3
    assert road.callers() == before | {service: before[service] + 1}
    job = road.client.get(f"/v1/jobs/{response.headers['x-arriero-job-id']}").json()
    assert job["route"]["candidates"][0]["service"] == service


@pytest.mark.req("S3-13")
def test_a_private_request_reaches_only_ours(road: Road) -> None:
    cloud = road.callers()["cloud"]
    for model in ("auto", "llama3.2", "phi4"):
        assert road.chat(model, PRIVATE).status_code == 200
    for model in ("cloud~big", "big"):
        refused = road.chat(model, PRIVATE)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "private_request")
    assert road.chat("big", **{"x-arriero-private": "true"}).status_code == 400
    assert road.callers()["cloud"] == cloud


@pytest.mark.req("S3-17")
def test_a_complex_task_goes_to_the_cloud_unless_it_is_private(road: Road) -> None:
    task = (
        "Analyze what llamas eat in winter when there is snow on all of the meadows of the valley and no hay at all. "
    )
    assert road.chat("auto", task + "[tokens=3]").headers["x-arriero-route"] == "cloud~big; reason=complex"
    private = road.chat("auto", task + PRIVATE)
    assert private.headers["x-arriero-route"] == "ollama~llama3.2; reason=private"
