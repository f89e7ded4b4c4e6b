"""Orders for changes to models: checked, put in the managers' own shard of the queue, found again, cancelled.

At most one operation at a time is under way on a model and host. An order repeated while its like is unfinished is that
operation; a different one meanwhile is refused. An order for all hosts and one for a single host, given at the very
same moment, may both get through: the model server bears that, as every operation may be done twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import cast

from shared.errors import BadRequest, IdempotencyMismatch, OperationConflict, OperationNotFound, ServiceUnavailable
from shared.jobs import JobRecord, Kind, NewJob, Priority, State
from shared.model_names import is_allowed, same
from shared.queue.client import ANSWER_WITHIN_S, QueueClient
from shared.queue.connection import within
from shared.wire.codec import decode_progress
from shared.wire.operations import ModelOperation, OperationName, OperationProgress

TENANT = "models"
TIMEOUTS_S: dict[OperationName, float] = {
    "pull": 86_400.0,
    "update": 86_400.0,
    "import": 86_400.0,
    "load": 1_800.0,
    "unload": 300.0,
    "delete": 300.0,
}
"""From the order to its deadline; a download may have to wait for its network."""
RETENTION_S = 86_400.0
"""No shorter than any operation: the number of the next one is read from the record of the last."""
POLL_S = 0.1
NO_HOSTS = "There is no Ollama here whose models could be changed: it is not one of the services."
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"
_LOCAL_NAME = re.compile(rf"(?:{_PART}/)?{_PART}(?::{_PART})?")
_FULL_NAME = re.compile(rf"(?:{_PART}(?::[0-9]{{1,5}})?/)?(?:{_PART}/)?{_PART}(?::{_PART})?")
_FILE = re.compile(r"(?!.*(?:^|/)\.)[^\x00-\x1f\x7f\\/]+(?:/[^\x00-\x1f\x7f\\/]+)*\.gguf", re.IGNORECASE)
_LONGEST_FILE = 512
_BRINGING: frozenset[OperationName] = frozenset({"pull", "update", "import"})
"""What puts a model on a server's disk: takes long, and ALLOWED_MODELS has a say in it."""


def models_shard(shard: str) -> str:
    """The shard of operations beside a shard of jobs: workers look at the one, managers at the other."""
    return f"{shard}-models"


def check_model(model: str, op: OperationName, allowed: Collection[str]) -> None:
    """Raise BadRequest unless `model` is a name, and one that may be installed if that is what `op` does.

    A name with a registry's address in it would have the model server call that address, so ALLOWED_MODELS must have
    it.
    """
    if op in _BRINGING and allowed and not is_allowed(model, allowed):
        raise BadRequest(f"ALLOWED_MODELS does not have {model[:80]!r}. Add it there first.", param="model")
    if not (_FULL_NAME if allowed or op not in _BRINGING else _LOCAL_NAME).fullmatch(model):
        raise BadRequest(
            "`model` must be a name such as llama3.2 or namespace/model:tag; one with a registry's address only if "
            "ALLOWED_MODELS has it.",
            param="model",
        )


def check_file(order: ModelOperation) -> None:
    """Raise BadRequest unless an import names a weights file by a plain relative path, and nothing else names one.

    Whether the file is there only a manager can tell.
    """
    if order.op != "import":
        if order.file:
            raise BadRequest(f"`file` is for an import; leave it out of {order.op!r}.", param="file")
    elif len(order.file) > _LONGEST_FILE or not _FILE.fullmatch(order.file):
        raise BadRequest(
            "`file` must be the path of a .gguf file below the model manager's MODEL_IMPORT_DIR, such as "
            "tiny/model.gguf; hidden files and .. are not accepted.",
            param="file",
        )


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation as it stands. What was ordered is in the record's metadata: its payload goes when it ends."""

    record: JobRecord
    progress: OperationProgress = field(default_factory=OperationProgress)

    @property
    def op(self) -> str:
        return self.record.metadata["op"]

    @property
    def host(self) -> str:
        """Empty: all hosts."""
        return self.record.metadata["host"]

    @property
    def order(self) -> ModelOperation:
        """What was ordered, as it can be ordered anew."""
        return ModelOperation(
            op=cast("OperationName", self.op),
            model=self.record.model,
            host=self.host,
            file=self.record.metadata.get("file", ""),
        )


class Orders:
    """The operations of one fleet. Calls raise QueueUnavailable while Redis is away."""

    def __init__(self, queue: QueueClient, hosts: Sequence[str], allowed: Collection[str] = ()) -> None:
        self._queue = queue
        self._hosts = list(hosts)
        self._allowed = allowed

    async def place(self, order: ModelOperation, *, by: str, request_id: str = "") -> Operation:
        """Accept an order; `by` names who gave it. Raises BadRequest, OperationConflict, ServiceUnavailable."""
        check_model(order.model, order.op, self._allowed)
        check_file(order)
        if not self._hosts:
            raise ServiceUnavailable(NO_HOSTS)
        if order.host and order.host not in self._hosts:
            raise BadRequest(f"`host` must be one of {', '.join(self._hosts)}.", param="host")
        for host in self._hosts if not order.host else [""]:
            other = await self._latest(order.model, host)
            if other is not None and not other.state.is_terminal:
                raise _conflict(other)
        target = _target(order.model, order.host)
        number = await self._number(target)
        while True:
            job_id = f"op_{target}_{number}"
            known = await self._enqueue(job_id, order, by, request_id)
            if known is None:
                await self._remember(target, number)
            elif known.state.is_terminal:
                number += 1
                continue
            elif (known.metadata["op"], known.metadata.get("file", "")) != (order.op, order.file):
                raise _conflict(known)
            return await self.get(job_id)

    async def _enqueue(self, job_id: str, order: ModelOperation, by: str, request_id: str) -> JobRecord | None:
        """None: it is new. Else the operation that has this id."""
        metadata = {"op": order.op, "host": order.host, "reason": order.reason, "by": by}
        try:
            accepted = await self._queue.enqueue(
                NewJob(
                    id=job_id,
                    kind=Kind.MODEL_OP,
                    model=order.model,
                    request=order,
                    tenant=TENANT,
                    # Short ones first: nobody should wait for a download to get memory back.
                    priority=Priority.LOW if order.op in _BRINGING else Priority.NORMAL,
                    timeout_s=TIMEOUTS_S[order.op],
                    retention_s=RETENTION_S,
                    keep_events=True,
                    restartable=True,
                    fingerprint=f"{order.op} {order.file}".rstrip(),
                    request_id=request_id,
                    metadata=metadata | ({"file": order.file} if order.file else {}),
                )
            )
        except IdempotencyMismatch:  # another kind of operation, or of another file
            return await self._queue.get(job_id)
        return await self._queue.get(job_id) if accepted.duplicate else None

    async def get(self, operation_id: str) -> Operation:
        """Raises OperationNotFound."""
        record = await self._queue.get(operation_id)
        if record is None or record.kind is not Kind.MODEL_OP:
            raise OperationNotFound
        return (await self._with_progress([record]))[0]

    async def list(self, limit: int = 100) -> Sequence[Operation]:
        """The latest, newest first."""
        page = await self._queue.list(TENANT, limit=limit)
        return await self._with_progress([record for record in page.jobs if record.kind is Kind.MODEL_OP])

    async def under_way(self) -> Sequence[Operation]:
        """Those that have not ended."""
        return [operation for operation in await self.list(500) if not operation.record.state.is_terminal]

    async def has_failed(self, order: ModelOperation, *, within_s: float, now: float) -> bool:
        """Whether the latest operation on this model and host was the same and failed for good, not long before
        `now` (unix seconds)."""
        last = await self._latest(order.model, order.host)
        return (
            last is not None
            and last.state is State.DEAD_LETTERED
            and last.metadata["op"] == order.op
            and now - (last.ended_at or 0.0) < within_s
        )

    async def wait(self, operation_id: str, limit_s: float) -> Operation:
        """The operation once it has ended or moved on, or after `limit_s`. Raises OperationNotFound."""
        first = await self.get(operation_id)
        loop = asyncio.get_running_loop()
        until = loop.time() + limit_s
        while True:
            now = await self.get(operation_id)
            if now.record.state.is_terminal or now != first or loop.time() >= until:
                return now
            await asyncio.sleep(POLL_S)

    async def cancel(self, operation_id: str) -> Operation:
        """Stop an operation: at once while it waits, shortly while it runs. Raises OperationNotFound."""
        await self.get(operation_id)
        await self._queue.cancel(operation_id)
        return await self.get(operation_id)

    async def _with_progress(self, records: Sequence[JobRecord]) -> Sequence[Operation]:
        if not records:
            return []

        async def read() -> Sequence[Sequence[tuple[bytes, dict[bytes, bytes]]]]:
            pipe = self._queue.redis.pipeline(transaction=False)
            for record in records:
                # The last may say no more than that a run has begun anew.
                pipe.xrevrange(self._queue.keys.events(record.id), count=3)
            return await pipe.execute()

        logs = await within(ANSWER_WITHIN_S, read)
        return [Operation(record, _progress(log)) for record, log in zip(records, logs, strict=True)]

    async def _latest(self, model: str, host: str) -> JobRecord | None:
        target = _target(model, host)
        return await self._queue.get(f"op_{target}_{await self._number(target)}")

    async def _number(self, target: str) -> int:
        number = await within(ANSWER_WITHIN_S, lambda: self._queue.redis.get(self._queue.keys.operation_slot(target)))
        return int(number or 0)

    async def _remember(self, target: str, number: int) -> None:
        key = self._queue.keys.operation_slot(target)
        life_ms = int(2 * (RETENTION_S + max(TIMEOUTS_S.values())) * 1000)
        await within(ANSWER_WITHIN_S, lambda: self._queue.redis.set(key, number, px=life_ms))


def _target(model: str, host: str) -> str:
    return hashlib.sha256(f"{same(model)}@{host}".encode()).hexdigest()[:20]


def _progress(log: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> OperationProgress:
    for _, fields in log:
        if b"d" in fields and (steps := decode_progress(fields[b"d"])):
            return steps[-1]
    return OperationProgress()


def _conflict(other: JobRecord) -> OperationConflict:
    what = f"{other.metadata['op']} of {other.model} on {other.metadata['host'] or 'all hosts'}"
    return OperationConflict(f"Operation {other.id} is under way: {what}. Wait for its end, or cancel it.")
