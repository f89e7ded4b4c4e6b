"""How commands print: tables for people, JSON for programs, colours only on a terminal (rich sees to that)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

STATUS_STYLES = {
    "succeeded": "green",
    "ok": "green",
    "running": "cyan",
    "queued": "yellow",
    "scheduled": "yellow",
    "warn": "yellow",
    "dead_lettered": "red",
    "expired": "red",
    "fail": "red",
    "down": "red",
    "cancelled": "dim",
}


def console() -> Console:
    # Not cut at 80 columns where there is no terminal to tell its width.
    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def print_json_line(value: Any) -> None:
    """One value per line, for streams of events."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    table = Table(*columns, title=title or None, title_justify="left", box=None, pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        table.add_row(*row)
    output = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=200)
    output.print(table)


def status(text: str) -> str:
    """A status word in rich markup."""
    style = STATUS_STYLES.get(text)
    return f"[{style}]{text}[/]" if style else text


def seconds(value: float | None) -> str:
    if value is None:
        return "-"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(int(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def clock(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S") if unix_s else "-"


def confirm(question: str, yes: bool) -> None:
    """Ends the command with status 1 unless the answer is yes; without a terminal to ask on, --yes is needed."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter("this needs --yes where there is no terminal to ask on")
    typer.confirm(question, abort=True)
