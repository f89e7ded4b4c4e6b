"""`arriero config`: what every service would read here, and the .env.example made from the same classes.

The services' settings classes are read by a process of their own, `infra.setup.settings_report`: the command never
imports a service.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Annotated

import typer
from rich.markup import escape

from arriero.cli.failures import EXIT_CONFIG, CommandFailed
from arriero.cli.output import Json, print_json, print_table
from arriero.settings import child_environment

app = typer.Typer(help="Settings: what is in effect, and what there is to set.", no_args_is_help=True)
REPORT_S = 60.0


@app.command()
def show(
    changed: Annotated[bool, typer.Option("--changed", help="Only what is not the default.")] = False,
    as_json: Json = False,
) -> None:
    """Every setting in effect here and where it comes from; secrets are masked."""
    rows = json.loads(_report("show"))
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


@app.command("env-example")
def env_example(
    check: Annotated[str, typer.Option(metavar="FILE", help="Print nothing; status 1 if FILE differs.")] = "",
) -> None:
    """Print .env.example: each setting with its default, unit and meaning."""
    sys.stdout.write(_report("check", check) if check else _report("env-example"))


def _report(*arguments: str) -> str:
    """The report's output. Raises CommandFailed with its status and its own words."""
    command = [sys.executable, "-m", "infra.setup.settings_report", *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=REPORT_S, check=False, env=child_environment({})
        )
    except subprocess.TimeoutExpired as exc:
        raise CommandFailed(f"reading the settings took longer than {REPORT_S:g} s") from exc
    if done.returncode == 0:
        return done.stdout
    if "Traceback" in done.stderr:
        last = done.stderr.strip().splitlines()[-1]
        raise CommandFailed(
            f"the services cannot be imported here ({last}): install Arriero with `make setup`", EXIT_CONFIG
        )
    raise CommandFailed(done.stderr.strip(), done.returncode)
