"""Prompt templates: what they are, how they are filled in, and where they may be named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.routes.direct_bodies import PromptTemplates
from gateway.settings import GatewaySettings
from gateway.templates import render, variables_of
from shared.errors import BadRequest
from shared.queue.running import RunningJob
from shared.wire.codec import decode_request
from tests.gateway.conftest import HandWorker, Served, StartGateway, say

TEMPLATES = {
    "summarise": "Sum up in $words words, for $$1: ${text}",
    "greet": "Say hello.",
}
FILLED = {"template": "summarise", "variables": {"words": "five", "text": "all of it"}}
TEXT = "Sum up in five words, for $1: all of it"


@pytest.fixture
async def served(start_gateway: StartGateway) -> Served:
    return await start_gateway(prompt_templates=TEMPLATES)


@pytest.fixture
def asked(worker: HandWorker) -> list[Any]:
    """The canonical requests that reach the worker."""
    seen: list[Any] = []

    async def look(job: RunningJob) -> bytes:
        seen.append(decode_request(job.kind, job.raw_request))
        return await say(job, "yes")

    worker.script = look
    return seen


@pytest.mark.req("S0-52")
async def test_a_template_stands_in_the_place_of_a_prompt(served: Served, asked: list[Any]) -> None:
    answer = await served.http.post("/generate", json={**FILLED, "worker_type": "local_llm"})
    assert answer.status_code == 200, answer.text
    assert asked[0].prompt == TEXT


@pytest.mark.req("S0-52")
@pytest.mark.parametrize(
    ("type_", "request_body", "said"),
    [
        ("completion", {}, [TEXT]),
        ("chat.completion", {}, [TEXT]),
        ("chat.completion", {"messages": [{"role": "system", "content": "Be brief."}]}, ["Be brief.", TEXT]),
    ],
)
async def test_a_job_is_given_a_template(
    served: Served, asked: list[Any], type_: str, request_body: dict[str, Any], said: list[str]
) -> None:
    body = {"type": type_, "request": {"model": "llama3.2", **request_body}, **FILLED}
    job = (await served.http.post("/v1/jobs", json=body)).json()
    done = await served.http.get(f"/v1/jobs/{job['id']}?wait=10")
    assert done.json()["status"] == "succeeded"
    (request,) = asked
    assert ([request.prompt] if type_ == "completion" else [turn.content for turn in request.messages]) == said


@pytest.mark.req("S0-52")
async def test_templates_are_listed_with_their_variables(served: Served) -> None:
    listed = (await served.http.get("/templates")).json()
    assert listed == {
        "templates": [{"name": "greet", "variables": []}, {"name": "summarise", "variables": ["words", "text"]}]
    }
    PromptTemplates.model_validate(listed)


@pytest.mark.req("S0-52")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"template": "sumarise"}, "did you mean summarise"),
        ({"template": "nothing/like it"}, "`template`: should match"),
        ({"variables": {"words": "five"}}, "needs `text`; it has words, text"),
        ({"variables": {**FILLED["variables"], "tone": "kind"}}, "has only words, text"),  # type: ignore[dict-item]
        ({"template": "greet"}, "the template greet has none"),
        ({"variables": {"words": 5, "text": ""}}, "`variables.words`: should be a valid string"),
        ({"prompt": "and this"}, "`template`: stands in the place of `prompt`"),
        ({"variables": {"words": "x" * 8000, "text": ""}}, "`template`: has 80"),
    ],
)
async def test_what_does_not_fit_is_refused(served: Served, change: dict[str, Any], says: str) -> None:
    answer = await served.http.post("/generate", json={**FILLED, "worker_type": "local_llm", **change})
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"type": "completion", "request": {"model": "m", "prompt": "x"}}, "stands in the place of `prompt`"),
        ({"type": "embedding", "request": {"model": "m", "input": "x"}}, "an embedding takes none"),
        ({"type": "chat.completion", "request": {"model": "m", "messages": "x"}}, "`messages`: should be a valid list"),
    ],
)
async def test_a_job_that_cannot_take_a_template_is_refused(served: Served, body: dict[str, Any], says: str) -> None:
    answer = await served.http.post("/v1/jobs", json={**body, **FILLED})
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]


@given(st.text(max_size=50))
def test_a_value_is_put_in_as_it_is(value: str) -> None:
    assert render({"t": "<$a>"}, "t", {"a": value}) == f"<{value}>"


@pytest.mark.parametrize("attempt", ["${a.__class__}", "${a[0]}", "$(id)", "{{ a }}", "%(a)s", "{a}"])
def test_nothing_in_a_template_is_executed(attempt: str) -> None:
    """What other template languages would evaluate is either plain text here or no template."""
    try:
        settings = GatewaySettings(_env_file=None, prompt_templates={"t": attempt})
    except ValidationError as refused:
        assert "write $$ for a dollar sign" in str(refused)
    else:
        assert variables_of(attempt) == []
        assert render(settings.prompt_templates, "t", {}) == attempt


def test_an_unknown_template_without_a_likely_one() -> None:
    with pytest.raises(BadRequest, match="GET /templates lists them"):
        render({}, "x", {})


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("{", "expected JSON such as"),
        ('{"a b": "x"}', "is no name"),
        ('{"price": "5 $ each"}', "price: write $$ for a dollar sign"),
    ],
)
def test_a_template_that_could_never_be_filled_in_is_a_fault_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, value: str, says: str
) -> None:
    monkeypatch.setenv("PROMPT_TEMPLATES", value)
    with pytest.raises(ValidationError) as refused:
        GatewaySettings(_env_file=None)
    assert says in str(refused.value)


@pytest.mark.req("S0-52")
def test_templates_stand_in_the_yaml_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "arriero.yaml"
    file.write_text("prompt_templates:\n  summarise: |-\n    Sum up:\n    $text\n  log_level: $x\n", encoding="utf-8")
    monkeypatch.setenv("ARRIERO_CONFIG", str(file))
    settings = GatewaySettings(_env_file=None)
    assert settings.prompt_templates == {"summarise": "Sum up:\n$text", "log_level": "$x"}
    assert settings.log_level == "INFO", "what stands in it is no setting"
