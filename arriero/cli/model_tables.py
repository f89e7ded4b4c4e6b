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
SHOWN_TAGS = 6


def print_models(models: Sequence[Body], hosts: Sequence[Body]) -> None:
    columns = ("model", "size", "installed on", "loaded on", "calls", "failed", "p50", "p95", "last used", "score")
    print_table(columns, [_row(model) for model in models])
    for host in hosts:
        if host["error"]:
            console().print(f"[red]{escape(host['host'])}[/] is not counted: {escape(host['error'])}")


def print_model(model: Body, record: Body | None, usage: Sequence[Body], parts: Sequence[Body]) -> None:
    """One model: its record in the catalogue, its use by host and operation, and what its score is made of."""
    rows = [
        ("model", escape(model["name"])),
        *(_facts(record) if record else ()),
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


def print_search(answer: Body) -> None:
    """What outside registries have, each registry's models in its own order."""
    columns = ("model", "registry", "kind", "parameters", "downloads", "likes", "tags")
    print_table(columns, [_hit(model) for model in answer["models"]])
    if not answer["models"]:
        console().print("nothing found")
    for error in answer["errors"]:
        console().print(f"[red]{escape(error['registry'])}[/] is not in this list: {escape(error['message'])}")


def print_found(models: Sequence[Body]) -> None:
    """A model that is not installed, as registries have it."""
    for model in models:
        rows = [
            ("model", escape(model["id"])),
            ("registry", model["registry"]),
            ("kind", _kind(model["guessed"])),
            ("parameters", _many(model["guessed"]["parameters"])),
            ("downloads", _many(model["downloads"])),
            ("likes", _many(model["likes"])),
            ("trend", _many(model["trend"])),
            ("tags", escape(", ".join(model["tags"])) or "-"),
            ("created", model["created_at"] or "-"),
            ("updated", escape(model["updated"]) or "-"),
            ("page", escape(model["url"])),
            ("about", escape(model["description"]) or "-"),
        ]
        print_table(("", ""), rows)
        console().print(f"not installed: arriero models pull {escape(model['pull_name'])}\n")


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


def _facts(record: Body) -> list[tuple[str, str]]:
    """What a model is: told by its server, else guessed from its name."""
    return [
        ("kind", _kind(record)),
        ("architecture", escape(record["architecture"]) or "-"),
        ("quantization", escape(record["quantization"]) or "-"),
        ("parameters", _many(record["parameters"])),
        ("context", f"{record['max_tokens']} tokens" if record["max_tokens"] else "-"),
    ]


def _kind(record: Body) -> str:
    """Such as `llm: coding, tooling`."""
    flags = [flag for flag in ("instructed", "coding", "tooling") if record[flag]]
    return f"{record['type']}: {', '.join(flags)}" if flags else str(record["type"])


def _hit(model: Body) -> tuple[str, ...]:
    counts = (_many(model["guessed"]["parameters"]), _many(model["downloads"]), _many(model["likes"]))
    return (escape(model["pull_name"]), model["registry"], _kind(model["guessed"]), *counts, _few(model["tags"]))


def _few(tags: Sequence[str]) -> str:
    return escape(", ".join(tags[:SHOWN_TAGS])) + (", ..." if len(tags) > SHOWN_TAGS else "") if tags else "-"


def _many(count: float | None) -> str:
    """In thousands, millions and billions: `3.2B`."""
    if not count:
        return "-" if count is None else "0"
    for unit, each in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= each:
            return f"{count / each:.3g}{unit}"
    return f"{count:g}"


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
