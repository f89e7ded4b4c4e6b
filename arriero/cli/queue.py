"""`arriero queue`: statistics and clearing, straight from Redis, so that they work while the gateway is down."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from arriero.cli.output import Json, Yes, confirm, console, print_json, print_table, seconds
from shared.plurals import counted

if TYPE_CHECKING:
    from shared.queue.stats import QueueStats

app = typer.Typer(help="The queue in Redis. Works without the gateway.", no_args_is_help=True)


@app.command()
def stats(as_json: Json = False) -> None:
    """How many jobs wait and run, for how long, and who works on them."""
    found = asyncio.run(_stats())
    if as_json:
        print_json(asdict(found))
        return
    print_table(("state", "jobs"), [(state, str(count)) for state, count in sorted(found.states.items())])
    console().print()
    waiting = [(name, str(count)) for name, count in found.queued_by_class.items()]
    print_table(("class", "queued"), waiting)
    console().print(f"oldest wait: {seconds(found.oldest_wait_s)}")
    if found.dead_letters:
        console().print(f"dead letters: {found.dead_letters}, see `arriero dlq list`")
    console().print()
    print_table(("since the beginning", "jobs"), [(name, str(count)) for name, count in found.counters.items()])
    console().print()
    print_table(
        ("worker", "host", "pid", "running", "slots", "seen", "version"),
        [
            (w.id, w.host, str(w.pid), str(w.running), str(w.slots), f"{seconds(w.seen_s_ago)} ago", w.version)
            for w in found.workers
        ],
    )
    if not found.workers:
        console().print("no worker is alive: `make run`, or `python -m worker`")
    memory = found.redis_used_memory_bytes / 2**20
    console().print(f"\nRedis {found.redis_version}, {memory:.1f} MiB, durability: {found.durability}")


@app.command()
def clear(
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Cancel all waiting jobs. They stay readable as cancelled; running ones go on."""
    confirm("Cancel all waiting jobs?", yes)
    cancelled = asyncio.run(_clear())
    if as_json:
        print_json({"cancelled": cancelled})
    else:
        console().print(f"cancelled {counted(cancelled, 'job')}")


async def _stats() -> QueueStats:
    from arriero.cli import redis_access

    async with redis_access.queue() as queue:
        return await queue.stats()


async def _clear() -> int:
    from arriero.cli import redis_access

    async with redis_access.queue() as queue:
        return await queue.clear()
