"""Grafana's files, read as files: they are what the descriptions say, and name only what is exported."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import pytest
import yaml

from infra.grafana.__main__ import DASHBOARDS, differing, main
from infra.grafana.panels import DATASOURCE, Unit
from tests.house.requirements import ROOT
from tests.infra.declared_metrics import labels, sample_names
from tests.infra.prometheus_files import dashboards, panel_expressions, panels, recorded
from tests.infra.promql import label_names, metric_names

PROVISIONING = ROOT / "infra" / "grafana" / "provisioning"
PROMETHEUS_OWN = {"up", "ALERTS"}
TARGET_LABELS = {"job", "instance", "le", "alertname", "alertstate"}


@pytest.mark.req("D-06")
def test_the_files_are_what_the_descriptions_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert not differing(), capsys.readouterr()
    assert main(["--check"]) == 0
    assert len(DASHBOARDS) == len(dashboards()) == 4


@pytest.mark.req("D-06")
@pytest.mark.parametrize("place", panel_expressions())
def test_a_panel_asks_for_what_is_exported(place: str) -> None:
    expression = panel_expressions()[place]
    assert metric_names(expression)
    assert metric_names(expression) <= sample_names() | recorded().keys() | PROMETHEUS_OWN
    assert label_names(expression) <= labels() | TARGET_LABELS


@pytest.mark.parametrize("dashboard", dashboards().values(), ids=dashboards())
def test_panels_say_what_they_show(dashboard: dict[str, Any]) -> None:
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in panels(dashboard):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in get_args(Unit)
        assert panel["targets"] and panel["datasource"] == DATASOURCE
        assert len(panel["targets"]) == 1 or all(target["legendFormat"] for target in panel["targets"])


@pytest.mark.parametrize("dashboard", dashboards().values(), ids=dashboards())
def test_panels_lie_beside_each_other(dashboard: dict[str, Any]) -> None:
    for one, other in itertools.combinations([panel["gridPos"] for panel in dashboard["panels"]], 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in dashboard["panels"])


@pytest.mark.parametrize("dashboard", dashboards().values(), ids=dashboards())
def test_variables_are_used_and_there(dashboard: dict[str, Any]) -> None:
    expressions = " ".join(target["expr"] for panel in panels(dashboard) for target in panel["targets"])
    for variable in dashboard["templating"]["list"]:
        assert f'"${variable["name"]}"' in expressions
        metric, label = variable["query"]["query"].removeprefix("label_values(").removesuffix(")").split(", ")
        assert metric in sample_names() and label in labels()
    names = {variable["name"] for variable in dashboard["templating"]["list"]} | {"__rate_interval"}
    used = {word.split('"')[0].split("]")[0] for word in expressions.split("$")[1:]}
    assert used <= names


def test_the_provisioning_leads_to_the_files() -> None:
    (source,) = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert {"type": source["type"], "uid": source["uid"]} == DATASOURCE
    prometheus = yaml.safe_load((ROOT / "infra" / "prometheus" / "prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards" / "arriero.yml").read_text())["providers"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]["volumes"]
    assert f"./infra/grafana/dashboards:{provider['options']['path']}:ro" in compose
