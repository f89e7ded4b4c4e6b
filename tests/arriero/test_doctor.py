"""The doctor's judgement, and that it and the troubleshooting guide name the same troubles."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from arriero.cli import checks, doctor
from arriero.cli.checks import Finding, Section
from arriero.settings import StackSettings
from arriero.stack.redis_server import OLDEST_MAJOR
from shared.queue.stats import QueueStats, WorkerInfo
from shared.resilience.breaker import BreakerState
from shared.resilience.circuits import CircuitView
from tests.house.redis_server import free_port
from tests.house.requirements import ROOT

GUIDE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def stats(**more: Any) -> QueueStats:
    values: dict[str, Any] = {
        "states": {"queued": 0, "running": 0, "scheduled": 0},
        "queued_by_class": {"high": 0, "normal": 0, "low": 0},
        "oldest_wait_s": 0.0,
        "counters": {},
        "workers": [worker()],
        "redis_version": "7.2.4",
        "durability": "aof-everysec",
        **more,
    }
    return QueueStats(**values)


def worker(running: int = 0, slots: int = 4) -> WorkerInfo:
    return WorkerInfo(id="w", host="h", pid=1, slots=slots, running=running, seen_s_ago=1.0, version="0")


def troubles(findings: list[Finding]) -> dict[Section, str]:
    return {finding.section: finding.state for finding in findings if finding.state != "ok"}


@pytest.mark.req("S1-106")
def test_each_section_of_the_guide_is_a_check_and_each_check_has_its_section() -> None:
    anchors = [
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^## (.+)$", GUIDE, re.M)
    ]
    assert anchors == [section.value for section in Section], "in the order in which the doctor goes through them"


@pytest.mark.req("S1-106")
@pytest.mark.parametrize("trouble", ["connection", "memory", "stuck queue", "circuit"])
def test_the_guide_covers_what_was_asked_for(trouble: str) -> None:
    names = {"connection": "does-not-answer", "memory": "memory", "stuck queue": "stuck-queue", "circuit": "circuits"}
    assert any(names[trouble] in section for section in Section)


def test_all_is_well() -> None:
    memory = {"maxmemory_policy": "noeviction", "maxmemory": 0, "used_memory": 5}
    assert not troubles([*checks.redis(stats(), memory), *checks.queue(stats(), [])])


@pytest.mark.parametrize(
    ("found", "memory", "section", "state"),
    [
        ({"redis_version": "6.2.0"}, {}, Section.REDIS, "fail"),
        ({"durability": "none"}, {}, Section.DURABILITY, "warn"),
        ({"durability": "aof-no"}, {}, Section.DURABILITY, "warn"),
        ({}, {"maxmemory_policy": "allkeys-lru"}, Section.EVICTION, "fail"),
        ({}, {"maxmemory": 100, "used_memory": 85}, Section.MEMORY, "warn"),
        ({}, {"maxmemory": 100, "used_memory": 97}, Section.MEMORY, "fail"),
    ],
)
def test_redis(found: dict[str, Any], memory: dict[str, Any], section: Section, state: str) -> None:
    findings = list(checks.redis(stats(**found), memory))
    assert troubles(findings) == {section: state}
    assert all(finding.remedy for finding in findings if finding.state != "ok")


@pytest.mark.parametrize(
    ("found", "section", "says"),
    [
        ({"workers": []}, Section.WORKERS, "python -m worker"),
        ({"oldest_wait_s": 90.0, "queued_by_class": {"low": 3}, "workers": [worker(4)]}, Section.STUCK, "add workers"),
        ({"oldest_wait_s": 90.0, "queued_by_class": {"low": 3}}, Section.STUCK, "slots are free"),
        ({"dead_letters": 2}, Section.DEAD_LETTERS, "dlq list"),
        ({"counters": {"stale_writes": 1}}, Section.LEASES, "stalls"),
    ],
)
def test_the_queue(found: dict[str, Any], section: Section, says: str) -> None:
    (trouble,) = [finding for finding in checks.queue(stats(**found), []) if finding.state != "ok"]
    assert trouble.section is section
    assert says in trouble.remedy


def test_a_short_wait_is_none() -> None:
    assert not troubles(list(checks.queue(stats(oldest_wait_s=5.0, queued_by_class={"low": 3}), [])))


def test_open_circuits_are_named() -> None:
    opened = CircuitView(
        name="host:a:1", state=BreakerState.OPEN, openings=1, reason="", retry_in_s=3.0, changed_by="", changed_at=0.0
    )
    (trouble,) = [finding for finding in checks.queue(stats(), [opened]) if finding.state != "ok"]
    assert trouble.detail == "host:a:1"
    assert trouble.see == "docs/troubleshooting.md#open-circuits"
    half = checks.queue(stats(), [replace(opened, state=BreakerState.HALF_OPEN)])
    assert [finding.detail for finding in half if finding.state != "ok"] == ["host:a:1 (half-open)"]


def test_without_a_worker_nothing_works() -> None:
    assert troubles(list(checks.queue(stats(workers=[]), []))) == {Section.WORKERS: "fail"}


def test_models() -> None:
    assert checks.ollama("http://a", None).section is Section.OLLAMA
    assert checks.ollama("http://a", []).section is Section.MODELS
    assert checks.ollama("http://a", ["llama3.2"]).state == "ok"


@pytest.mark.req("S1-105")
@pytest.mark.parametrize(
    ("docker", "compose", "states"),
    [
        ("28.2.2", "2.38.1", ["ok", "ok"]),
        ("20.10.0", "v2.24.0-desktop.1", ["ok", "ok"]),
        ("19.03.15", "1.29.2", ["warn", "warn"]),
        ("20.9", "2.23.3", ["warn", "warn"]),
        ("24.0.7", "", ["ok", "ok"]),
        ("", "", ["ok", "ok"]),
    ],
)
def test_too_old_a_docker_is_told_and_none_is_no_fault(docker: str, compose: str, states: list[str]) -> None:
    found = list(checks.containers(docker, compose))
    assert [finding.state for finding in found] == states
    assert all("or later is needed" in finding.remedy for finding in found if finding.state == "warn")
    assert [finding.detail for finding in found] == [
        one or "none; only containers need it" for one in (docker, compose)
    ]


@pytest.mark.req("S1-105")
def test_too_old_an_ollama_is_told() -> None:
    assert checks.ollama("http://a", ["llama3.2"], "0.12.3").detail == "0.12.3; llama3.2"
    old = checks.ollama("http://a", ["llama3.2"], "0.4.7")
    assert (old.state, old.detail, old.section) == ("warn", "0.4.7", Section.OLLAMA)


@pytest.mark.req("S1-105")
@pytest.mark.parametrize("says", ["20.10.7", "Cannot connect to the daemon"])
def test_the_doctor_asks_the_docker_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str) -> None:
    """It fails here as it does without its daemon, and tells its version all the same."""
    program = tmp_path / "docker"
    program.write_text(f"#!/bin/sh\ntest $1 = compose && echo v2.24.1 && exit\necho {says}\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    nothing = "none; only containers need it"
    expected = [says, "v2.24.1"] if says[0].isdigit() else [nothing, nothing]
    assert [finding.detail for finding in doctor._containers()] == expected


def test_the_doctor_and_up_ask_for_the_same_redis() -> None:
    assert checks.LEAST_REDIS_MAJOR == OLDEST_MAJOR


@pytest.mark.req("S1-105", "S2-18")
def test_the_doctor_asks_the_hosts_of_the_services(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    address = f"http://127.0.0.1:{free_port()}"
    (tmp_path / "config.yaml").write_text(f"llm: {{services: {{ollama: {{urls: ['{address}']}}}}}}")
    (found,) = doctor._ollama(StackSettings())
    assert found.what == f"Ollama {address}"
    (tmp_path / "config.yaml").write_text("llm: {services: {ollama: {urls: [nowhere]}}}")
    (wrong,) = doctor._ollama(StackSettings())
    assert wrong.state == "fail" and "SERVICES" in wrong.remedy


@pytest.mark.req("S1-105")
def test_what_runs_is_not_told_to_be_started() -> None:
    waiting, gone, well = (
        checks.service("worker-1", "http://a", state, "redis down") for state in ("warn", "down", "ok")
    )
    assert waiting.remedy.startswith("it runs") and "make" not in waiting.remedy
    assert "make worker" in gone.remedy
    assert (well.state, well.remedy) == ("ok", "")


def test_an_ollama_that_is_switched_off_is_told_and_not_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OLLAMA_ENABLED", "false")
    (found,) = doctor._ollama(StackSettings())
    assert (found.state, found.section) == ("ok", Section.OLLAMA)
    assert "OLLAMA_ENABLED" in found.detail
