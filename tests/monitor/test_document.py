"""docs/monitoring.md tells what the code does."""

from __future__ import annotations

import base64
import re

import pytest

from monitor.deliver.channels import signed_headers
from monitor.rules import rules
from monitor.settings import MonitorSettings
from shared.settings import parse_duration_s, parse_ratio
from tests.house.requirements import ROOT
from worker.settings import WorkerSettings

TEXT = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \| [^|]+ \| (warning|critical) \| (?:`(\w+)`)? ?\| ?([^|]*?) ?\|$", re.MULTILINE)


def test_the_table_of_alerts() -> None:
    settings = MonitorSettings()
    rows = ROW.findall(TEXT)
    assert [(name, severity) for name, severity, _, _ in rows] == [(one.name, one.severity) for one in rules(settings)]
    for _, _, variable, default in rows:
        if variable:
            parse = parse_ratio if "%" in default else parse_duration_s
            assert getattr(settings, variable.lower()) == float(parse(default)), variable


def test_every_setting_it_names_exists() -> None:
    named = set(re.findall(r"`((?:MONITOR|ALERT|ALERTMANAGER|PERFORMANCE)_[A-Z_0-9]+)`", TEXT))
    assert len(named) > 10
    known = {*MonitorSettings.model_fields, *WorkerSettings.model_fields}
    assert {name for name in named if name.lower() not in known} == set()


def test_the_recipe_for_receivers() -> None:
    (recipe,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    scope: dict[str, object] = {}
    exec(recipe, scope)  # our own page
    is_ours = scope["is_ours"]
    assert callable(is_ours)
    key = b"k" * 32
    secret = "whsec_" + base64.b64encode(key).decode()
    headers = signed_headers(key, "msg_1", 1_700_000_000, b'{"a": 1}')
    assert is_ours(headers, b'{"a": 1}', secret)
    assert not is_ours(headers, b'{"a": 2}', secret)
    assert not is_ours({**headers, "webhook-id": "msg_2"}, b'{"a": 1}', secret)


@pytest.mark.parametrize("name", ["report", "readings", "alerts", "history"])
def test_pages_are_named(name: str) -> None:
    assert f"GET /{name}" in TEXT
