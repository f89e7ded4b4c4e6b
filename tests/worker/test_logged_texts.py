"""Prompts and answers stay out of the logs, unless somebody chose to have them there."""

from __future__ import annotations

import json

import pytest
import structlog

from shared.telemetry.logging import configure_logging
from shared.wire.canonical import ChatRequest, EmbeddingAnswer, Message, TextAnswer
from worker import observation
from worker.metrics import WorkerMetrics
from worker.observation import Observation

REQUEST = ChatRequest(model="m", messages=[Message(role="user", content="a secret\x1b[31m")])


pytestmark = pytest.mark.usefixtures("restored_logs")


@pytest.mark.parametrize("chosen", [False, True])
def test_texts_are_logged_only_when_chosen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, chosen: bool
) -> None:
    configure_logging("worker", "DEBUG", "json")
    # The module's own would keep this test's standard error for ever.
    monkeypatch.setattr(observation, "log", structlog.get_logger())
    observed = Observation(WorkerMetrics("w"), log_prompts=chosen)
    observed.exchanged(REQUEST, TextAnswer(model="m", content="told"))
    observed.exchanged(REQUEST, EmbeddingAnswer(model="m", vectors=[b"", b""]))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert len(lines) == (2 if chosen else 0)
    if chosen:
        assert "a secret" in lines[0]["request"]
        assert "\x1b" not in lines[0]["request"]
        assert [line["answer"] for line in lines] == ["told", "2 vectors"]
