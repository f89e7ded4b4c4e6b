"""What a dashboard is made of, and its form in Grafana's JSON.

Panels stand in rows of 24 columns, from left to right in the order in which they are listed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA_VERSION = 39
"""Of dashboards as Grafana 11 writes them; later ones migrate it."""
DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
"""The uid is that of provisioning/datasources/prometheus.yml."""
COLUMNS = 24

Json = dict[str, Any]
Kind = Literal["timeseries", "stat", "state-timeline"]
Unit = Literal["short", "none", "s", "bytes", "Bps", "percentunit", "reqps", "celsius", "watt", "bool_on_off", "ops"]
"""Grafana's names of units: `reqps` requests a second, `ops` operations a second, `percentunit` a share of 1."""


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression, and the name of its series: `{{label}}` stands for a label's value."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. `description` is what the reader should take from it. `steps`: (from, colour), rising, after green;
    `states`: name and colour of values, for state timelines."""

    title: str
    description: str
    unit: Unit
    queries: tuple[Query, ...]
    kind: Kind = "timeseries"
    width: int = 8
    height: int = 7
    steps: tuple[tuple[float, str], ...] = ()
    states: tuple[tuple[float, str, str], ...] = ()
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top: the values that `label` has in `metric`; several at a time, or all."""

    name: str
    title: str
    metric: str
    label: str


@dataclass(frozen=True, slots=True)
class Dashboard:
    """`uid` is also the name of its file, and the end of its address."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...] = field(default=())


def document(dashboard: Dashboard) -> Json:
    """Grafana's JSON model of a dashboard."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["arriero"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": False,
        "graphTooltip": 1,  # one cross hair for all panels
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [
            {"type": "dashboards", "tags": ["arriero"], "title": "Arriero", "asDropdown": True, "keepTime": True}
        ],
        "templating": {"list": [_variable(variable) for variable in dashboard.variables]},
        "panels": _panels(dashboard.rows),
    }


def _variable(variable: Variable) -> Json:
    return {
        "name": variable.name,
        "label": variable.title,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": f"label_values({variable.metric}, {variable.label})", "refId": "variable"},
        "refresh": 2,  # whenever the time range changes
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panels(rows: tuple[Row, ...]) -> list[Json]:
    found: list[Json] = []
    y = 0
    for row in rows:
        place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        found.append({"id": len(found) + 1, "type": "row", "title": row.title, "gridPos": place, "panels": []})
        x, y, deepest = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, deepest = 0, y + deepest, 0
            place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
            found.append({"id": len(found) + 1, "gridPos": place, **_panel(panel)})
            x, deepest = x + panel.width, max(deepest, panel.height)
        y += deepest
    return found


def _panel(panel: Panel) -> Json:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": DATASOURCE, "expr": query.expr, "legendFormat": query.legend}
            for index, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _OPTIONS[panel.kind],
    }


def _defaults(panel: Panel) -> Json:
    steps: list[Json] = [{"value": None, "color": "green"}]
    steps += [{"value": value, "color": colour} for value, colour in panel.steps]
    defaults: Json = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.unit == "percentunit":
        defaults |= {"min": 0, "max": 1}
    elif panel.unit != "celsius":
        defaults["min"] = 0
    if panel.states:
        texts = {f"{value:g}": {"text": text, "color": colour} for value, text, colour in panel.states}
        defaults["mappings"] = [{"type": "value", "options": texts}]
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "fillOpacity": 40 if panel.stacked else 8,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none"},
            "thresholdsStyle": {"mode": "line" if panel.steps else "off"},
        }
    return defaults


_OPTIONS: dict[Kind, Json] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom"},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "background", "graphMode": "area"},
    "state-timeline": {"mergeValues": True, "showValue": "never", "legend": {"showLegend": True}},
}
