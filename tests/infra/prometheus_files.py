"""What lies in infra/prometheus and infra/grafana, and a quick form of the rules."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.house.requirements import ROOT

PROMETHEUS = ROOT / "infra" / "prometheus"
RULE_FILES = sorted((PROMETHEUS / "rules").glob("*.yml"))
DASHBOARD_FILES = sorted((ROOT / "infra" / "grafana" / "dashboards").glob("*.json"))
RUNBOOKS = ROOT / "docs" / "runbooks"

_DURATION = re.compile(r"^(\d+)([smh])$")
_THRESHOLD = re.compile(r"(>=?|<) (\d+(?:\.\d+)?)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
QUICK_FOR = "1s"


@dataclass(frozen=True, slots=True)
class Alert:
    name: str
    expr: str
    for_s: int
    severity: str
    summary: str
    runbook_url: str


def seconds(duration: str) -> int:
    found = _DURATION.match(duration)
    assert found is not None, duration
    return int(found[1]) * _SECONDS[found[2]]


def rules(path: Path) -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(path.read_text())["groups"]:
        yield from group["rules"]


def alerts() -> dict[str, Alert]:
    """By name."""
    found = [rule for path in RULE_FILES for rule in rules(path) if "alert" in rule]
    return {
        rule["alert"]: Alert(
            rule["alert"], rule["expr"], seconds(rule.get("for", "0s")), rule["labels"]["severity"],
            rule["annotations"]["summary"], rule["annotations"]["runbook_url"],
        )
        for rule in found
    }  # fmt: skip


def recorded() -> dict[str, str]:
    """Expression by the name under which its result is recorded."""
    return {rule["record"]: rule["expr"] for path in RULE_FILES for rule in rules(path) if "record" in rule}


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Without the rows' headings."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def dashboards() -> dict[str, dict[str, Any]]:
    """By the name of the file."""
    return {path.stem: json.loads(path.read_text()) for path in DASHBOARD_FILES}


def panel_expressions() -> dict[str, str]:
    """`dashboard / panel / query` -> expression, with Grafana's variables still in it."""
    return {
        f"{name} / {panel['title']} / {target['refId']}": target["expr"]
        for name, dashboard in dashboards().items()
        for panel in panels(dashboard)
        for target in panel["targets"]
    }


def with_all_chosen(expression: str, interval: str) -> str:
    """As Grafana sends it with All in every variable. `interval`: such as 10s."""
    return re.sub(r"\$(?!__)\w+", ".*", expression.replace("$__rate_interval", interval))


def quick(text: str, thresholds: dict[str, str]) -> str:
    """A rule file with every `for` at a second, and with the thresholds of the alerts that are named, by name."""

    def shorten(rule: re.Match[str]) -> str:
        name, body = rule[1], rule[0]
        body = re.sub(r"(\n        for: )\w+", rf"\g<1>{QUICK_FOR}", body)
        if name in thresholds:
            body = _replace_first(body, lambda found: f"{found[1]} {thresholds[name]}")
        return body

    return re.sub(r"- alert: (\w+)\n(?:        .*\n?)+", shorten, text)


def _replace_first(body: str, by: Callable[[re.Match[str]], str]) -> str:
    changed, times = _THRESHOLD.subn(by, body, count=1)
    assert times == 1, body
    return changed
