"""Models, operations on them and plans, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape

from arriero.cli.following import failure, step, title
from arriero.cli.output import clock, console, print_table, seconds, size, status

Body = Mapping[str, Any]
"""What the manager's pages send."""
GOOD_SCORE, FAIR_SCORE = 80, 50


def print_models(models: Sequence[Body], hosts: Sequence[Body]) -> None:
    columns = ("model", "size", "installed on", "loaded on", "calls", "failed", "p50", "p95", "last used", "score")
    print_table(columns, [_row(model) for model in models])
    for host in hosts:
        if host["error"]:
            console().print(f"[red]{escape(host['host'])}[/] is not counted: {escape(host['error'])}")


def print_model(model: Body, usage: Sequence[Body], parts: Sequence[Body]) -> None:
    """One model with its use by host and operation, and what its score is made of."""
    rows = [
        ("model", escape(model["name"])),
        ("size", size(model["size_bytes"])),
        ("installed on", _names(model["installed_on"])),
        ("loaded on", _names(model["loaded_on"])),
        ("pinned", "yes" if model["pinned"] else "no"),
        ("last used", clock(model["last_used_at"] or 0)),
        ("score", _score(model["score"])),
    ]
    print_table(("", ""), rows)
    if parts:
        console().print()
        print_table(("part of the score", "points", "because"), [_part(part) for part in parts])
    used = [(entry, kind, figures) for entry in usage for kind, figures in entry["operations"].items()]
    if used:
        console().print()
        columns = ("host", "operation", "calls", "failed", "p50", "p95", "p99", "tokens in", "tokens out")
        print_table(columns, [_use(*row) for row in used])


def print_operations(operations: Sequence[Body]) -> None:
    columns = ("operation", "what", "status", "progress", "by", "created", "error")
    print_table(columns, [_operation(operation) for operation in operations])
    if not operations:
        console().print("no operation on a model yet")


def print_end(operation: Body) -> None:
    if not operation["finished_at"]:
        console().print(f"{escape(title(operation))} is ordered: {operation['id']}")
        return
    console().print(f"{escape(title(operation))}: {escape(failure(operation)) or 'done'}")
    for host in (operation["result"] or {}).get("hosts", ()):
        if host["outcome"] in ("skipped", "unchanged"):
            console().print(f"  {escape(host['host'])}: {host['outcome']}, {escape(host['reason'])}")


def print_plan(plan: Body) -> None:
    rows = [(escape(r["model"]), escape(r["host"]), size(r["size_bytes"]), escape(r["reason"])) for r in plan["remove"]]
    print_table(("delete", "host", "size", "because"), rows)
    console().print()
    print_table(
        ("keep", "host", "because"), [tuple(map(escape, (k["model"], k["host"], k["reason"]))) for k in plan["kept"]]
    )
    console().print(f"\nfrees {size(plan['freed_bytes'])}" if rows else "\nnothing to delete")


def _row(model: Body) -> tuple[str, ...]:
    name = escape(model["name"]) + (" (pinned)" if model["pinned"] else "")
    places = (_names(model["installed_on"]), _names(model["loaded_on"]))
    times = (seconds(model["p50_seconds"]), seconds(model["p95_seconds"]), clock(model["last_used_at"] or 0))
    used = (str(model["calls"]), str(model["failures"]))
    return (name, size(model["size_bytes"]), *places, *used, *times, _score(model["score"]))


def _use(entry: Body, kind: str, figures: Body) -> tuple[str, ...]:
    spread = [seconds(figures["latency"][f"p{percent}_seconds"]) for percent in (50, 95, 99)]
    counts = (str(figures["calls"]), str(sum(figures["failures"].values())))
    return (escape(entry["host"]), kind, *counts, *spread, str(figures["tokens_in"]), str(figures["tokens_out"]))


def _operation(operation: Body) -> tuple[str, ...]:
    percent = operation["progress"]["percent"]
    far = f"{step(operation)} {percent:.0f} %" if percent is not None else step(operation)
    what, by = escape(title(operation)), escape(operation["by"])
    why = escape(failure(operation)) if operation["finished_at"] else "-"
    return (operation["id"], what, status(operation["status"]), far, by, clock(operation["created_at"]), why or "-")


def _part(part: Body) -> tuple[str, ...]:
    return (part["name"], "-" if part["value"] is None else f"{part['points']:.0f}", escape(part["detail"]))


def _names(hosts: Sequence[str]) -> str:
    return escape(", ".join(hosts)) or "-"


def _score(score: float | None) -> str:
    if score is None:
        return "-"
    style = "green" if score >= GOOD_SCORE else "yellow" if score >= FAIR_SCORE else "red"
    return f"[{style}]{score:.0f}[/]"
