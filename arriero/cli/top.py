"""`arriero top`: queue, workers, models, circuits and hosts on one screen, renewed every second."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from arriero.cli.circuits import STYLES
from arriero.cli.failures import EXIT_DEGRADED, EXIT_UNAVAILABLE
from arriero.cli.frames import Frame, per_second, read_frame
from arriero.cli.output import Json, print_json, seconds, size
from shared.plurals import counted

if TYPE_CHECKING:
    from shared.queue.stats import QueueStats

NARROW = 90
"""Columns below which tables leave out what can be done without."""
MOST_ROWS = 12
PIPED_WIDTH = 120


def top(
    once: Annotated[bool, typer.Option("--once", help="Print one frame and end.")] = False,
    interval: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between frames.")] = 1.0,
    as_json: Json = False,
) -> None:
    """Watch queue, workers, models, circuits and hosts; Ctrl-C ends. Without a terminal, or with --json: one frame."""
    width = None if sys.stdout.isatty() else PIPED_WIDTH
    console = Console(highlight=False, emoji=False, width=width)
    if once or as_json or not console.is_terminal:
        frame = asyncio.run(read_frame())
        if as_json:
            print_json(asdict(frame))
        else:
            console.print(draw(frame, None, console.width))
        if frame.queue is None:
            raise typer.Exit(EXIT_UNAVAILABLE)
        if frame.problems or not frame.queue.workers:
            raise typer.Exit(EXIT_DEGRADED)
        return
    with suppress(KeyboardInterrupt):
        asyncio.run(_watch(console, interval))


async def _watch(console: Console, interval_s: float) -> None:
    earlier: Frame | None = None
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            frame = await read_frame()
            live.update(draw(frame, earlier, console.width), refresh=True)
            earlier = frame
            await asyncio.sleep(interval_s)


def draw(frame: Frame, earlier: Frame | None, width: int) -> RenderableType:
    """A frame for a screen `width` columns wide; rates are against `earlier`."""
    wide = width >= NARROW
    parts: list[RenderableType] = []
    if frame.queue is not None:
        parts += [*_queue(frame.queue, per_second(frame, earlier)), "", _workers(frame.queue, wide)]
    if frame.models is not None:
        parts += ["", _models(frame.models, wide)]
    if opened := [circuit for circuit in frame.circuits if circuit.state != "closed"]:
        rows = [(escape(c.name), f"[{STYLES[c.state]}]{c.state}[/]", escape(c.reason)) for c in opened]
        parts += ["", _table(("circuit", "state", "because"), rows)]
    if frame.readings is not None:
        parts += ["", *_hosts(frame.readings)]
    parts += [Text(problem, "red") for problem in frame.problems]
    return Group(*parts)


def _queue(stats: QueueStats, rates: Mapping[str, float] | None) -> Iterator[str]:
    classes = ", ".join(f"{name} {count}" for name, count in stats.queued_by_class.items())
    yield (
        f"[bold]queue[/]    {stats.states.get('queued', 0)} waiting ({classes}), "
        f"oldest {seconds(stats.oldest_wait_s)}; "
        f"{stats.states.get('running', 0)} running; {stats.states.get('scheduled', 0)} scheduled; "
        f"{counted(stats.dead_letters, 'dead letter')}"
    )
    if rates is None:
        totals = ", ".join(f"{stats.counters.get(state, 0)} {state}" for state in ("succeeded", "dead_lettered"))
        yield f"[bold]ended[/]    {totals}"
    else:
        yield "[bold]ended[/]    " + ", ".join(f"{rate:.1f}/s {state}" for state, rate in rates.items())
    yield f"[bold]Redis[/]    {stats.redis_version}, {size(stats.redis_used_memory_bytes)}, {stats.durability}"


def _workers(stats: QueueStats, wide: bool) -> Table | str:
    if not stats.workers:
        return "[red]no worker is alive[/]: make run, or python -m worker"
    workers = sorted(stats.workers, key=lambda worker: (-worker.running, worker.id))
    rows = [
        (escape(w.id), _bar(w.running, w.slots), *((escape(w.host), str(w.pid), seconds(w.seen_s_ago)) if wide else ()))
        for w in workers
    ]
    return _table(("worker", "slots", *(("host", "pid", "seen") if wide else ())), rows)


def _models(page: Mapping[str, Any], wide: bool) -> Table:
    models = sorted(page["models"], key=lambda model: (not model["loaded_on"], -model["calls"], model["name"]))
    rows = [
        (
            escape(model["name"]) + (" *" if model["pinned"] else ""),
            "[green]loaded[/]" if model["loaded_on"] else "on disk",
            str(model["calls"]),
            str(model["failures"]),
            *(
                (seconds(model["p50_seconds"]), seconds(model["p95_seconds"]), size(model["size_bytes"]))
                if wide
                else ()
            ),
            "-" if model["score"] is None else f"{model['score']:.0f}",
        )
        for model in models
    ]
    return _table(("model", "where", "calls", "failed", *(("p50", "p95", "size") if wide else ()), "score"), rows)


def _hosts(readings: Mapping[str, Any]) -> Iterator[str]:
    host = readings["host"]
    if host is not None:
        memory, cpu = host["memory"], host["cpu"]
        used = "-" if cpu["used_ratio"] is None else f"{cpu['used_ratio']:.0%}"
        yield (
            f"[bold]host[/]     {escape(host['name'])}: processors {used} of {cpu['cores']:g}, memory "
            f"{memory['used_ratio']:.0%} of {size(memory['total_bytes'])}"
        )
    for gpu in readings["gpu"] or ():
        used = "" if gpu["used_ratio"] is None else f" {gpu['used_ratio']:.0%}"
        memory = "" if gpu["memory_ratio"] is None else f", memory {gpu['memory_ratio']:.0%}"
        yield f"[bold]GPU {gpu['index']}[/]    {escape(gpu['name'])}{used}{memory}"
    for server in readings["ollama"]:
        latency = "" if server["latency_s"] is None else f"{server['latency_s'] * 1000:.1f} ms"
        yield f"[bold]Ollama[/]   {escape(server['host'])} " + (
            latency if server["up"] else f"[red]{escape(server['error'])}[/]"
        )


def _bar(value: int, most: int, cells: int = 10) -> str:
    full = round(cells * value / most) if most else 0
    return f"[cyan]{'#' * full}[/]{'.' * (cells - full)} {value}/{most}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """At most `MOST_ROWS` rows, cut to the screen instead of wrapped: a frame must not jump."""
    table = Table(*columns, box=None, pad_edge=False)
    for column in table.columns:
        column.no_wrap, column.overflow = True, "ellipsis"
    listed = list(rows)
    for row in listed[:MOST_ROWS]:
        table.add_row(*row)
    if len(listed) > MOST_ROWS:
        table.add_row(f"and {len(listed) - MOST_ROWS} more")
    return table
