"""How far an operation is: its downloads added up, and told to whoever watches, not more often than is of use."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from shared.backends.ollama_models import PullProgress
from shared.queue.running import RunningJob
from shared.wire.operations import HostProgress, OperationProgress, Outcome

LEAST_PAUSE_S = 0.5
PAUSE_SHARE = 0.01
"""Of the time it has run so far: an hour's download is told of every half minute, and leaves some hundred entries."""


class Download:
    """The layers of one model, as they become known. Pure."""

    def __init__(self) -> None:
        self._layers: dict[str, PullProgress] = {}

    def add(self, stage: PullProgress) -> int:
        """Take a stage in; how many bytes came since the one before. What was there at first sight did not come now."""
        if not stage.digest:
            return 0
        before = self._layers.get(stage.digest, stage)
        self._layers[stage.digest] = stage
        return max(0, stage.completed_bytes - before.completed_bytes)

    @property
    def completed_bytes(self) -> int:
        return sum(layer.completed_bytes for layer in self._layers.values())

    @property
    def total_bytes(self) -> int:
        return sum(layer.total_bytes for layer in self._layers.values())


class Steps:
    """The progress of one run on all its hosts. Changes of status are told at once, bytes now and then."""

    def __init__(self, job: RunningJob, hosts: Iterable[str]) -> None:
        self._job = job
        self._hosts = {host: HostProgress(host=host, status="waiting") for host in hosts}
        self._clock = asyncio.get_running_loop().time
        self._began = self._told_at = self._clock()

    def show(self, host: str, status: str, completed_bytes: int = 0, total_bytes: int = 0) -> None:
        changed = self._hosts[host].status != status
        self._hosts[host] = HostProgress(
            host=host, status=status, completed_bytes=completed_bytes, total_bytes=total_bytes
        )
        now = self._clock()
        if changed or now - self._told_at >= max(LEAST_PAUSE_S, PAUSE_SHARE * (now - self._began)):
            self._tell(now)

    def end(self, host: str, outcome: Outcome) -> None:
        """The host is through; its bytes stay as they are."""
        self._hosts[host] = replace(self._hosts[host], status=outcome)
        self._tell(self._clock())

    def _tell(self, now: float) -> None:
        self._told_at = now
        self._job.publish(OperationProgress(hosts=list(self._hosts.values())))
