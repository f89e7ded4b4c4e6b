"""Where a job may run, as its gateway decided: stored with the job, so that a retry, a replay or a batch keeps it."""

from __future__ import annotations

from msgspec import Struct


class Candidate(Struct, frozen=True):
    """A model at a service, under the name it has there."""

    service: str
    model: str

    @property
    def qualified(self) -> str:
        """`service~model`, the name that means the same everywhere."""
        return f"{self.service}~{self.model}"


class Route(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The places in the order to try, at least one. `reason` is one word of a closed set, for headers and metrics."""

    candidates: tuple[Candidate, ...]
    reason: str = ""
    local_only: bool = False
    """The request must not leave our own machines, whatever the candidates say."""
    shown_as: str = ""
    """What answers call the model; empty: by its name at the first candidate."""
    explicit: bool = False
    """The caller named the service, so no other may stand in for it."""
