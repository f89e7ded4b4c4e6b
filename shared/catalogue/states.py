"""What operations under way mean for the states of models. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from shared.catalogue.guess import guess
from shared.catalogue.record import ModelRecord, ModelState
from shared.jobs import State
from shared.model_names import same
from shared.operations.orders import Operation

ERROR_FOR_S = 3600.0
"""How long a model counts as failing after an operation on it failed for good."""
_UNDER_WAY: Mapping[str, ModelState] = {
    "pull": "downloading",
    "update": "downloading",
    "import": "downloading",
    "load": "loading",
}


def with_operations(
    service: str, records: Iterable[ModelRecord], operations: Sequence[Operation], *, now: float
) -> list[ModelRecord]:
    """The records of the service that the operations are about, with the states these mean; a model that is only just
    coming gets a record. `operations` are newest first, `now` in Unix seconds."""
    found = {same(record.upstream_name): record for record in records}
    for operation in reversed(operations):
        key = same(operation.record.model)
        known = found.get(key)
        state = _state(operation, now)
        if state == "error":
            if known is not None and known.state != "loaded":
                found[key] = replace(known, state=state)
        elif state is not None:
            found[key] = replace(known or guess(service, operation.record.model), state=state)
    return sorted(found.values(), key=lambda record: record.upstream_name)


def _state(operation: Operation, now: float) -> ModelState | None:
    """None: it says nothing of its model."""
    record = operation.record
    if not record.state.is_terminal:
        return _UNDER_WAY.get(operation.op)
    failed = record.state is State.DEAD_LETTERED and now - (record.ended_at or 0.0) < ERROR_FOR_S
    return "error" if failed and operation.op in _UNDER_WAY else None
