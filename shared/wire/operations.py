"""Changes to models as they travel through the queue: the order, its progress, its outcome; the maintenance run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

OperationName = Literal["pull", "load", "unload", "delete", "update", "import"]
Outcome = Literal["done", "unchanged", "skipped", "failed"]


@dataclass(slots=True, kw_only=True)
class ModelOperation:
    """What is to happen to a model. `host` is a model server's name, host:port; empty: all of them."""

    op: OperationName
    model: str
    host: str = ""
    reason: str = ""
    file: str = ""
    """For an import: the weights, a path below the managers' MODEL_IMPORT_DIR."""
    epoch: int = 0
    """The term of the leading manager that decided this; 0: a person or the clock did, and no change of leader
    takes it back."""


@dataclass(slots=True, kw_only=True)
class HostProgress:
    """How far one host is. Bytes are of what has been announced so far, which grows; 0 where bytes say nothing."""

    host: str
    status: str = ""
    completed_bytes: int = 0
    total_bytes: int = 0


@dataclass(slots=True, kw_only=True)
class OperationProgress:
    """Where an operation stands, on each of its hosts."""

    hosts: list[HostProgress] = field(default_factory=list)

    @property
    def completed_bytes(self) -> int:
        return sum(host.completed_bytes for host in self.hosts)

    @property
    def total_bytes(self) -> int:
        return sum(host.total_bytes for host in self.hosts)


@dataclass(slots=True, kw_only=True)
class HostOutcome:
    """What became of an operation on one host. `reason` says why it was skipped or failed."""

    host: str
    outcome: Outcome
    reason: str = ""
    bytes: int = 0
    """Size of what was downloaded, or of the files that were removed."""


@dataclass(slots=True, kw_only=True)
class OperationAnswer:
    """The end of an operation that did not fail everywhere."""

    hosts: list[HostOutcome] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Maintenance:
    """An order to look after the models; it says nothing more."""


@dataclass(slots=True, kw_only=True)
class MaintenanceAnswer:
    """What a maintenance run set in motion: ids of operations, by task."""

    started: dict[str, list[str]] = field(default_factory=dict)
