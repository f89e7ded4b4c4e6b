"""Embeddings: several jobs served by one call, and one job with many inputs by several.

The jobs of a batch were claimed together for one call's slot. Those that ask alike share a call; where a host rejects
it, the batch is halved until the input that it does not take fails alone.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import msgspec
from msgspec import structs

from shared.backends.base import Backend, CallTimeouts
from shared.backends.watch import timed_out
from shared.errors import BackendRejected
from shared.queue.running import Batch
from shared.wire.canonical import EmbeddingAnswer, EmbeddingRequest, Usage
from worker.choice import CallFailed, Trip

INPUTS_A_CALL = 64
"""A host embeds a call's inputs one after another; shorter calls show sooner that it does."""
MOST_NAMED = 20
"""Jobs whose ids go with a call."""

_alike = msgspec.msgpack.Encoder(order="deterministic").encode


@dataclass(slots=True, eq=False)
class _Gathering:
    """A batch by those who ask alike. It holds one slot, so its calls go one after another."""

    groups: dict[Hashable, _Group] = field(default_factory=dict)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True, eq=False)
class _Group:
    """Jobs of a batch that ask alike."""

    members: list[Trip] = field(default_factory=list)
    task: asyncio.Task[list[EmbeddingAnswer | Exception]] | None = None
    gone: int = 0


class EmbeddingBatches:
    """Gathers the jobs of a batch, which all begin in the same turn of the loop. `call` serves one trip."""

    def __init__(self, call: Callable[[Trip], Awaitable[object]]) -> None:
        self._call = call
        self._gatherings: WeakKeyDictionary[Batch, _Gathering] = WeakKeyDictionary()

    async def answer(self, trip: Trip, batch: Batch) -> EmbeddingAnswer:
        """This job's share of the call that it is part of. Raises what the call raises."""
        gathering = self._gatherings.setdefault(batch, _Gathering())
        # Where it failed before decides where it goes now.
        key = _alike(structs.replace(_asked(trip), inputs=[])), trip.itinerary, trip.job.local_only, tuple(trip.failed)
        group = gathering.groups.get(key)
        if group is None:
            group = gathering.groups[key] = _Group()
            group.task = asyncio.create_task(self._serve_group(gathering, key, group))
        place = len(group.members)
        group.members.append(trip)
        assert group.task is not None
        try:
            outcome = (await asyncio.shield(group.task))[place]
        except asyncio.CancelledError:
            group.gone += 1
            if group.gone == len(group.members):
                group.task.cancel()
            raise
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _serve_group(
        self, gathering: _Gathering, key: Hashable, group: _Group
    ) -> list[EmbeddingAnswer | Exception]:
        await asyncio.sleep(0)  # until all have come
        del gathering.groups[key]  # who comes later goes alone
        async with gathering.turn:
            return await self._serve(group.members)

    async def _serve(self, members: Sequence[Trip]) -> list[EmbeddingAnswer | Exception]:
        whole = _together(members)
        try:
            answer = await self._call(whole)
        except CallFailed as failed:
            if isinstance(failed.error, BackendRejected) and len(members) > 1:
                half = len(members) // 2
                return [*await self._serve(members[:half]), *await self._serve(members[half:])]
            _tell(members, whole)
            return [failed] * len(members)
        except Exception as error:
            _tell(members, whole)
            return [error] * len(members)
        assert isinstance(answer, EmbeddingAnswer)
        _tell(members, whole)
        shares = _shares(members, answer)
        for member, share in zip(members, shares, strict=True):
            member.job.usage = share.usage
        return list(shares)


def _asked(trip: Trip) -> EmbeddingRequest:
    assert isinstance(trip.request, EmbeddingRequest)
    return trip.request


def _together(members: Sequence[Trip]) -> Trip:
    """One trip for all, in the name of the job with the most time left."""
    first = max(members, key=lambda trip: trip.job.deadline)
    if len(members) == 1:
        return first
    inputs = [text for trip in members for text in _asked(trip).inputs]
    names = ",".join(trip.job.id for trip in members) if len(members) <= MOST_NAMED else first.job.id
    return Trip(
        job=first.job, request=structs.replace(_asked(first), inputs=inputs), kind=first.kind,
        itinerary=first.itinerary, failed=list(first.failed), request_id=names,
    )  # fmt: skip


def _tell(members: Sequence[Trip], whole: Trip) -> None:
    """What became of the call is noted with each of its jobs."""
    for member in members:
        notes = whole.job.notes
        member.job.notes.backend, member.job.notes.model = notes.backend, notes.model
        member.timeouts, member.is_cut, member.full_wait = whole.timeouts, whole.is_cut, whole.full_wait
        member.options, member.steps, member.absent = whole.options, whole.steps, whole.absent
        member.is_as_asked = whole.is_as_asked


def _shares(members: Sequence[Trip], answer: EmbeddingAnswer) -> list[EmbeddingAnswer]:
    """The answer parted. Hosts count the tokens of a call, so each job's are reckoned by the length of its inputs."""
    lengths = [sum(len(text.encode()) for text in _asked(trip).inputs) for trip in members]
    total, tokens = max(1, sum(lengths)), answer.usage.prompt_tokens
    shares, done, told = [], 0, 0
    for n, trip in enumerate(members):
        count = len(_asked(trip).inputs)
        upto = tokens * sum(lengths[: n + 1]) // total
        usage = Usage(prompt_tokens=upto - told)
        shares.append(structs.replace(answer, vectors=answer.vectors[done : done + count], usage=usage))
        done, told = done + count, upto
    return shares


async def embed(
    backend: Backend, request: EmbeddingRequest, *, request_id: str, timeouts: CallTimeouts
) -> EmbeddingAnswer:
    """The vectors of all inputs, in calls of `INPUTS_A_CALL`, one after another within the time of one."""
    inputs = request.inputs
    if len(inputs) <= INPUTS_A_CALL:
        return await backend.embed(request, request_id=request_id, timeouts=timeouts)
    until = time.monotonic() + timeouts.total_s
    whole: EmbeddingAnswer | None = None
    for start in range(0, len(inputs), INPUTS_A_CALL):
        left_s = until - time.monotonic()
        if left_s <= 0:
            raise timed_out("total", timeouts.total_s)
        part = await backend.embed(
            structs.replace(request, inputs=inputs[start : start + INPUTS_A_CALL]), request_id=request_id,
            timeouts=dataclasses.replace(timeouts, total_s=left_s),
        )  # fmt: skip
        whole = part if whole is None else _joined(whole, part)
    assert whole is not None
    return whole


def _joined(one: EmbeddingAnswer, more: EmbeddingAnswer) -> EmbeddingAnswer:
    one.vectors += more.vectors
    one.usage.prompt_tokens += more.usage.prompt_tokens
    one.timings.total_s += more.timings.total_s
    one.timings.load_s += more.timings.load_s
    return one
