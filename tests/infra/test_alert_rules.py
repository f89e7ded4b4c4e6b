"""Prometheus' rules, read as files and run by promtool where that is installed."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from arriero.cli.app import app
from monitor.settings import MonitorSettings
from tests.house.requirements import ROOT
from tests.infra.alert_cases import CASES, promtool_tests
from tests.infra.declared_metrics import labels, sample_names
from tests.infra.prometheus_files import PROMETHEUS, RULE_FILES, RUNBOOKS, Alert, alerts, quick, recorded
from tests.infra.promql import label_names, metric_names

ALERTS = alerts()
ALERTMANAGER = ROOT / "infra" / "alertmanager" / "alertmanager.yml"
THRESHOLDS = {
    "ArrieroQueueBacklog": "queue_backlog_alert_threshold",
    "ArrieroQueueDelay": "queue_delay_alert_threshold",
    "ArrieroDeadLetters": "dead_letter_alert_threshold",
    "ArrieroModelSlow": "latency_p95_alert_threshold",
    "ArrieroModelFailing": "error_rate_alert_threshold",
    "ArrieroProcessorBusy": "cpu_alert_threshold",
    "ArrieroMemoryFull": "memory_alert_threshold",
    "ArrieroDiskFull": "disk_alert_threshold",
    "ArrieroGpuBusy": "gpu_alert_threshold",
    "ArrieroGpuMemoryFull": "gpu_memory_alert_threshold",
    "ArrieroGpuHot": "gpu_temperature_alert_threshold",
}
"""Alerts of which the monitor has one, too: the setting with its threshold."""
ARGUMENTS = {
    "rules": ("check", "rules", *map(str, RULE_FILES)),
    "config": ("check", "config", "--syntax-only", str(PROMETHEUS / "prometheus.yml")),
}
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian: prometheus)")


@pytest.mark.req("D-07")
@pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS)
def test_an_alert_says_what_is_wrong_and_what_to_do(alert: Alert) -> None:
    assert alert.severity in ("warning", "critical")
    assert alert.summary.endswith(".")
    assert alert.runbook_url == f"docs/runbooks/{alert.name}.md"
    page = (ROOT / alert.runbook_url).read_text()
    assert page.startswith(f"# {alert.name}\n")
    for heading in ("## Meaning", "## Look", "## Do"):
        assert heading in page
    assert "```" in page or "`" in page.partition("## Look")[2]


def test_every_runbook_has_its_alert_and_is_listed() -> None:
    pages = {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"}
    assert pages == ALERTS.keys()
    listed = re.findall(r"\[(\w+)\]\((\w+)\.md\)", (RUNBOOKS / "README.md").read_text())
    assert {name for name, _ in listed} == {file for _, file in listed} == pages


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("*.md")), ids=lambda page: page.stem)
def test_commands_in_runbooks_exist(page: Path) -> None:
    for line in re.findall(r"(?:^|`)arriero ([^`\n]+)", page.read_text(), re.MULTILINE):
        words = shlex.split(line, comments=True)
        command: Any = typer.main.get_command(app)
        while words and hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= options, line


@pytest.mark.parametrize("name", [*ALERTS, *recorded()])
def test_a_rule_asks_for_what_is_exported(name: str) -> None:
    expression = ALERTS[name].expr if name in ALERTS else recorded()[name]
    assert metric_names(expression) <= sample_names() | recorded().keys() | {"up"}
    assert label_names(expression) <= labels() | {"job", "instance", "le"}


@pytest.mark.req("S1-61", "S1-62", "S1-64")
@pytest.mark.parametrize("name", THRESHOLDS)
def test_thresholds_are_the_monitor_s_defaults(name: str) -> None:
    found = re.search(r"> (\d+(?:\.\d+)?)", ALERTS[name].expr)
    assert found is not None
    assert float(found[1]) == getattr(MonitorSettings(), THRESHOLDS[name])


def test_what_alertmanager_holds_back_exists() -> None:
    config = yaml.safe_load(ALERTMANAGER.read_text())
    matchers = [one for rule in config["inhibit_rules"] for one in rule["source_matchers"] + rule["target_matchers"]]
    for matcher in matchers:
        pattern = matcher.partition("=")[2].lstrip("~").strip('"')
        prefix, _, names = pattern.partition("(")
        for name in (names.rstrip(")") or "").split("|") if names else [""]:
            assert prefix + name in ALERTS, matcher
    assert config["route"]["receiver"] == "nobody"


def test_the_quick_form_differs_in_durations_and_thresholds_alone() -> None:
    """The live test shortens the rules; so what it shows holds for the rules as they are."""
    numbers = re.compile(r"(?<=for: )\w+|(?<=[<>=] )[\d.]+")
    for path in RULE_FILES:
        text = path.read_text()
        quickened = quick(text, {"ArrieroQueueBacklog": "5", "ArrieroProcessorBusy": "0"})
        assert numbers.sub("#", quickened) == numbers.sub("#", text)
        assert not re.search(r"for: (?!1s\b)", quickened)
        if path.stem == "queue":
            assert '{state="queued"}) > 5\n' in quickened


def test_every_alert_has_a_case() -> None:
    assert {case.alert for case in CASES} == ALERTS.keys()


def promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("what", ARGUMENTS)
def test_promtool_finds_no_fault(what: str) -> None:
    promtool(*ARGUMENTS[what])


@needs_promtool
@pytest.mark.req("S1-61", "S1-62", "S1-63", "S1-64", "D-07")
def test_each_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    tests = {
        "rule_files": [str(path) for path in RULE_FILES],
        "evaluation_interval": "15s",
        "tests": promtool_tests(ALERTS),
    }
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests))
    promtool("test", "rules", str(tmp_path / "tests.yml"))
