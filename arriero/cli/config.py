"""`arriero config`: what every service would read here, whether it holds, and the pages made from the same classes.

The services' settings classes are read by a process of their own, `infra.setup.settings_report`: the command never
imports a service.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection
from typing import Annotated

import typer
from rich.markup import escape

from arriero.cli.failures import EXIT_CONFIG, CommandFailed
from arriero.cli.output import Json, console, print_json, print_table
from arriero.settings import child_environment

app = typer.Typer(help="Settings: what is in effect, and what there is to set.", no_args_is_help=True)
REPORT_S = 60.0
CheckFile = Annotated[str, typer.Option("--check", metavar="FILE", help="Print nothing; status 1 if FILE differs.")]


@app.command()
def show(
    changed: Annotated[bool, typer.Option("--changed", help="Only what is not the default.")] = False,
    as_json: Json = False,
) -> None:
    """Every setting in effect here and where it comes from; secrets are masked."""
    rows = json.loads(report("show"))
    if changed:
        rows = [row for row in rows if row["source"] != "default"]
    if as_json:
        print_json(rows)
        return
    for group in dict.fromkeys(row["group"] for row in rows):
        members = [row for row in rows if row["group"] == group]
        print_table(
            ("variable", "value", "source"),
            [(row["names"][0], escape(row["value"]), row["source"]) for row in members],
            title=f"\n{group}",
        )


@app.command()
def check(as_json: Json = False) -> None:
    """Look at the settings of all services at once, and start nothing. Exit status 78 if any would refuse to start."""
    found = json.loads(report("faults", accepted=(EXIT_CONFIG,)))
    if as_json:
        print_json(found)
    else:
        for kind, style in (("faults", "red"), ("remarks", "yellow")):
            for sentence in found[kind]:
                console().print(f"[{style}]{kind.removesuffix('s')}[/]  {escape(sentence)}")
        if not found["faults"]:
            console().print("no setting is wrong")
            console().print("not looked at: API keys; without one gateway, manager and monitor listen on loopback only")
    if found["faults"]:
        raise typer.Exit(EXIT_CONFIG)


@app.command()
def reference(check: CheckFile = "") -> None:
    """Print docs/configuration.md: where settings come from, and all of them."""
    sys.stdout.write(report("check", check) if check else report("reference"))


@app.command("env-example")
def env_example(check: CheckFile = "") -> None:
    """Print .env.example: each setting with its default, unit and meaning."""
    sys.stdout.write(report("check", check) if check else report("env-example"))


def report(*arguments: str, accepted: Collection[int] = ()) -> str:
    """The report's output. Raises CommandFailed with its status and its own words, unless that is `accepted`."""
    command = [sys.executable, "-m", "infra.setup.settings_report", *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=REPORT_S, check=False, env=child_environment({})
        )
    except subprocess.TimeoutExpired as exc:
        raise CommandFailed(f"reading the settings took longer than {REPORT_S:g} s") from exc
    if done.returncode == 0 or (done.returncode in accepted and done.stdout):
        return done.stdout
    if "Traceback" in done.stderr:
        last = done.stderr.strip().splitlines()[-1]
        raise CommandFailed(
            f"the services cannot be imported here ({last}): install Arriero with `make setup`", EXIT_CONFIG
        )
    raise CommandFailed(done.stderr.strip(), done.returncode)
