"""`arriero monitor`: what the system monitor sees, what alarms it, and what it would change."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.markup import escape

from arriero.cli.daemons import Daemon
from arriero.cli.failures import EXIT_DEGRADED
from arriero.cli.output import Json, console, print_json, print_table

app = typer.Typer(help="Hosts, queue and models as the system monitor sees them.", no_args_is_help=True)

Url = Annotated[
    str, typer.Option("--url", help="Monitor's address; default: ARRIERO_MONITOR_URL, else the running `arriero up`.")
]
SEVERITY_STYLES = {"warning": "yellow", "critical": "red"}


@app.command()
def report(as_json: Json = False, url: Url = "") -> None:
    """The health report. Exit status 0 if the verdict is ok, 3 for a warning or worse."""
    with Daemon("monitor", url) as monitor:
        found = monitor.get("/report")
        if as_json:
            print_json(found)
        else:
            sys.stdout.write(monitor.text("/report", format="text"))
    if found["verdict"] != "ok":
        raise typer.Exit(EXIT_DEGRADED)


@app.command()
def alerts(
    recent: Annotated[bool, typer.Option("--recent", help="Also those that are over.")] = False,
    as_json: Json = False,
    url: Url = "",
) -> None:
    """Alerts that fire or are about to. Exit status 3 if any fires."""
    with Daemon("monitor", url) as monitor:
        found = monitor.get("/alerts")
    if as_json:
        print_json(found)
    else:
        shown = [*found["active"], *(found["recent"] if recent else ())]
        print_table(("alert", "state", "severity", "what", "since"), [_row(alert) for alert in shown])
        if not shown:
            console().print("no alert")
    if any(alert["state"] == "firing" for alert in found["active"]):
        raise typer.Exit(EXIT_DEGRADED)


@app.command()
def advice(as_json: Json = False, url: Url = "") -> None:
    """What could be tuned, and the figures that say so."""
    with Daemon("monitor", url) as monitor:
        found = monitor.get("/report")["advice"]
    if as_json:
        print_json(found)
        return
    for one in found:
        figures = ", ".join(f"{name} {value:g}" for name, value in one["figures"].items())
        console().print(f"[bold]{escape(one['topic'])}[/]  {escape(one['text'])}\n  {escape(figures)}")
    if not found:
        console().print("nothing to advise")


def _row(alert: Mapping[str, Any]) -> tuple[str, ...]:
    severity = f"[{SEVERITY_STYLES.get(alert['severity'], '')}]{alert['severity']}[/]"
    return (escape(alert["alert"]), alert["state"], severity, escape(alert["summary"]), alert["since"] or "-")
