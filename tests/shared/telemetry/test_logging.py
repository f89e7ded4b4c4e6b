"""Log lines: one JSON object each, whatever a caller writes into them."""

from __future__ import annotations

import json
import logging

import pytest
import structlog

from shared.telemetry.logging import configure_logging, escape_control, logger

pytestmark = pytest.mark.usefixtures("restored_logs")


def lines(capture: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capture.readouterr().err.splitlines()]


@pytest.mark.req("S0-25")
def test_a_forged_line_stays_inside_its_field(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("gateway", "INFO", "json")
    logger("t").info("t.event", name='a\r\n{"event":"forged"}\x1b[31m\x00', size=3, other={"k": "\n"})
    (line,) = lines(capsys)
    assert line["event"] == "t.event"
    assert line["service"] == "gateway"
    assert line["size"] == 3
    assert line["name"] == 'a\\x0d\\x0a{"event":"forged"}\\x1b[31m\\x00'
    assert str(line["timestamp"]).endswith("Z")


@pytest.mark.req("S0-26")
def test_bound_ids_are_on_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("worker", "INFO", "json")
    with structlog.contextvars.bound_contextvars(job_id="job_1"):
        logger("t").info("inside")
        logging.getLogger("library").warning("from a %s", "library")
    logger("t").info("outside")
    inside, library, outside = lines(capsys)
    assert inside["job_id"] == library["job_id"] == "job_1"
    assert library["event"] == "from a library"
    assert "job_id" not in outside


@pytest.mark.req("S0-30")
def test_the_level_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("gateway", "WARNING", "json")
    logger("t").info("quiet")
    logger("t").warning("loud")
    assert [line["event"] for line in lines(capsys)] == ["loud"]


@pytest.mark.req("S0-27")
def test_an_exception_comes_with_its_stack(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("gateway", "INFO", "json")
    try:
        raise RuntimeError("boom\x1b[31m")
    except RuntimeError:
        logger("t").exception("t.failed")
    (line,) = lines(capsys)
    assert "Traceback" in str(line["exception"])
    assert "\x1b" not in str(line["exception"])


def test_long_text_is_cut() -> None:
    assert len(escape_control("x" * 10_000)) < 2100
