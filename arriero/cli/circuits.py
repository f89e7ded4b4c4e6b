"""`arriero circuits`: the workers' circuit breakers, straight from Redis: works while the gateway is down."""

from __future__ import annotations

import asyncio
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from arriero.cli.output import Json, clock, console, print_json, print_table, seconds

if TYPE_CHECKING:
    from shared.resilience.circuits import CircuitView

app = typer.Typer(help="Circuit breakers of hosts and models. Works without the gateway.", no_args_is_help=True)

STYLES = {"closed": "green", "half_open": "yellow", "open": "red"}
_DURATION = re.compile(r"\d+(\.\d+)?(ms|s|m|h|d)")

Name = Annotated[str, typer.Argument(metavar="NAME", help="host:<host:port> or chat:<model>@<host:port>.")]
Names = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", help="host:<host:port> or chat:<model>@<host:port>.", show_default=False),
]


@app.command()
def status(as_json: Json = False) -> None:
    """Which circuits are open or have been within the last hour. All others are closed."""
    found = asyncio.run(_status())
    if as_json:
        print_json([asdict(view) for view in found])
        return
    if not found:
        console().print("no circuit has opened within the last hour: all are closed")
        return
    _print(found)


@app.command()
def reset(
    name: Names = None,
    every: Annotated[bool, typer.Option("--all", help="Every circuit.")] = False,
    as_json: Json = False,
) -> None:
    """Close a circuit, or all, without waiting for a probe. Workers obey within a second."""
    if (name is None) is not every:
        raise typer.BadParameter("name a circuit, as `arriero circuits status` lists them, or give --all")
    closed = asyncio.run(_reset(name))
    if as_json:
        print_json([asdict(view) for view in closed])
        return
    for view in closed:
        console().print(f"closed {escape(view.name)}")
    if not closed:
        console().print("no circuit was open")


@app.command("force-open")
def force_open(
    name: Name,
    duration: Annotated[str, typer.Option("--for", help="How long, e.g. 90s, 10m, 2h; up to 7d.")] = "10m",
    as_json: Json = False,
) -> None:
    """Let no call through to a host or a model for a while, for maintenance. Jobs wait or go elsewhere."""
    if not _DURATION.fullmatch(duration):
        raise typer.BadParameter("expected a duration with its unit, such as 90s, 10m or 2h", param_hint="--for")
    opened = asyncio.run(_force_open(name, duration))
    if as_json:
        print_json(asdict(opened))
        return
    console().print(
        f"opened {escape(opened.name)} for {seconds(opened.retry_in_s)}; "
        f"sooner back: arriero circuits reset {escape(opened.name)}"
    )


def _print(views: list[CircuitView]) -> None:
    rows = [
        (
            escape(view.name),
            f"[{STYLES[view.state]}]{view.state}[/]",
            seconds(view.retry_in_s) if view.retry_in_s else "-",
            str(view.openings),
            escape(view.reason) or "-",
            escape(view.changed_by) or "-",
            clock(view.changed_at),
        )
        for view in views
    ]
    print_table(("circuit", "state", "retry in", "openings", "reason", "changed by", "changed"), rows)


async def _status() -> list[CircuitView]:
    from arriero.cli import redis_access
    from shared.resilience.circuit_admin import CircuitAdmin

    async with redis_access.queue() as queue:
        return await CircuitAdmin(queue.redis, queue.keys).circuits()


async def _reset(name: str | None) -> list[CircuitView]:
    from arriero.cli import redis_access
    from arriero.cli.failures import CommandFailed
    from shared.errors import BadRequest, CircuitNotFound
    from shared.resilience.circuit_admin import CircuitAdmin

    async with redis_access.queue() as queue:
        try:
            return await CircuitAdmin(queue.redis, queue.keys).reset(name)
        except (BadRequest, CircuitNotFound) as exc:
            raise CommandFailed(exc.message) from exc


async def _force_open(name: str, duration: str) -> CircuitView:
    from arriero.cli import redis_access
    from arriero.cli.failures import CommandFailed
    from shared.errors import BadRequest
    from shared.resilience.circuit_admin import CircuitAdmin
    from shared.settings import parse_duration_s

    async with redis_access.queue() as queue:
        try:
            return await CircuitAdmin(queue.redis, queue.keys).force_open(name, parse_duration_s(duration))
        except BadRequest as exc:
            raise CommandFailed(exc.message) from exc
