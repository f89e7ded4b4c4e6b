"""`--processes N`: one parent that keeps N worker processes alive."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import structlog

from worker.settings import WorkerSettings

log = structlog.get_logger()

RESTART_PAUSE_S = 1.0
GRACE_S = 5.0
"""Beyond the drain, before a child that does not end is killed."""


async def supervise(settings: WorkerSettings, count: int) -> None:
    """Run `count` workers on consecutive ports until SIGTERM or SIGINT; start a new one for any that dies."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as group:
        for index in range(count):
            group.create_task(_keep_alive(settings, index, stop))


async def _keep_alive(settings: WorkerSettings, index: int, stop: asyncio.Event) -> None:
    port = settings.worker_port + index if settings.worker_port else 0
    env = {**os.environ, "WORKER_ID": f"{settings.worker_id}-{index + 1}", "WORKER_PORT": str(port)}
    stopping = asyncio.create_task(stop.wait())
    while not stop.is_set():
        child = await asyncio.create_subprocess_exec(sys.executable, "-m", "worker", env=env)
        ended = asyncio.create_task(child.wait())
        await asyncio.wait((ended, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            log.error("worker.child_died", worker_id=env["WORKER_ID"], exit_code=child.returncode)
            await asyncio.sleep(RESTART_PAUSE_S)
            continue
        child.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(settings.worker_drain_timeout + GRACE_S):
                await ended
        except TimeoutError:
            child.kill()
            await child.wait()
