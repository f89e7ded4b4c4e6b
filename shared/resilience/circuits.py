"""Circuits by name, and one circuit as it is shown and as Redis tells of it.

A host's circuit is called `host:<host>`, that of an operation with a model there `chat:llama2@<host>`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shared.jobs import INFERENCE_KINDS
from shared.resilience.breaker import BreakerState

HOST_PREFIX = "host:"
_HOST = r"[A-Za-z0-9._:\[\]-]{1,255}"
NAME_PATTERN = rf"^(host:|({'|'.join(INFERENCE_KINDS)}):[A-Za-z0-9._:/-]{{1,255}}@){_HOST}$"
"""What a circuit's name looks like, for checking what operators type."""
_NAME = re.compile(NAME_PATTERN)


def host_circuit(host: str) -> str:
    return HOST_PREFIX + host


def model_circuit(kind: str, model: str, host: str) -> str:
    return f"{kind}:{model}@{host}"


def is_circuit_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def split_name(name: str) -> tuple[str, str]:
    """(`chat:llama2` or `host`, the host)."""
    if name.startswith(HOST_PREFIX):
        return "host", name.removeprefix(HOST_PREFIX)
    circuit, _, host = name.rpartition("@")
    return circuit, host


@dataclass(slots=True, frozen=True, kw_only=True)
class CircuitView:
    """A circuit for people and metrics. `changed_at` is Unix time by Redis' clock; 0 where only this process knows."""

    name: str
    state: BreakerState
    retry_in_s: float = 0.0
    """Until a call may go out again; 0 unless it is open."""
    openings: int = 0
    """Openings in a row."""
    reason: str = ""
    """Code of the error that opened it, or `forced`."""
    changed_by: str = ""
    """Worker, or `operator`."""
    changed_at: float = 0.0
    forced: bool = False


@dataclass(slots=True, frozen=True)
class CircuitRow:
    """A circuit as the scripts return it. `state` is `open`, `closed`, or empty for one that Redis does not know."""

    name: str
    state: str
    generation: int
    wait_s: float
    openings: int
    age_s: float
    changed_at: float
    worker: str
    reason: str
    forced: bool

    @classmethod
    def parse(cls, raw: Sequence[Any]) -> CircuitRow:
        name, state, generation, wait_ms, openings, age_ms, changed_ms, worker, reason, forced = raw
        return cls(
            name.decode(),
            state.decode(),
            generation,
            wait_ms / 1000,
            openings,
            age_ms / 1000,
            changed_ms / 1000,
            worker.decode(),
            reason.decode(),
            forced == b"1",
        )

    @property
    def breaker_state(self) -> BreakerState:
        if self.state != BreakerState.OPEN:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self.wait_s > 0 else BreakerState.HALF_OPEN

    def view(self) -> CircuitView:
        return CircuitView(
            name=self.name,
            state=self.breaker_state,
            retry_in_s=self.wait_s,
            openings=self.openings,
            reason=self.reason,
            changed_by=self.worker,
            changed_at=self.changed_at,
            forced=self.forced,
        )
