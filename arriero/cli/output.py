"""How commands print: tables for people, JSON for programs, colours only on a terminal (rich sees to that)."""

from __future__ import annotations

import io
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

PIPED_WIDTH = 200
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
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
    return Console(highlight=False, emoji=False, soft_wrap=not sys.stdout.isatty())


def print_next_page(command: str, cursor: str, chosen: Mapping[str, str]) -> None:
    """How to see the next page of the same list, if there is one. `chosen`: the options that made this one."""
    if cursor:
        same = shlex.join(word for option, value in chosen.items() if value for word in (option, value))
        console().print(escape(f"more: {command} {same} --cursor {cursor}"))


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def print_json_line(value: Any) -> None:
    """One value per line, for streams of events."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    table = Table(
        *columns, title=title or None, title_justify="left", box=None, pad_edge=False, show_header=any(columns)
    )
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        table.add_row(*row)
    if sys.stdout.isatty():
        Console(highlight=False, emoji=False).print(table)
        return
    rendered = io.StringIO()
    Console(highlight=False, emoji=False, width=PIPED_WIDTH, file=rendered).print(table)
    # Without the blanks that fill up the last column: a pipe's end may compare lines.
    for line in rendered.getvalue().splitlines():
        sys.stdout.write(line.rstrip() + "\n")


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


def size(count: float) -> str:
    """Bytes for people, in steps of 1024."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.1f} {_UNITS[unit]}" if unit else f"{count:.0f} B"


def clock(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S") if unix_s else "-"


@contextmanager
def counting(doing: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error, if that is a terminal; what is yielded takes how many of how many are done."""
    notes = Console(stderr=True, emoji=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes, disable=not notes.is_terminal, transient=True) as progress:
        task = progress.add_task(doing, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def confirm(question: str, yes: bool) -> None:
    """Ends the command with status 1 unless the answer is yes; without a terminal to ask on, --yes is needed."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter("this needs --yes where there is no terminal to ask on")
    typer.confirm(question, abort=True)
