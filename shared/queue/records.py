"""From the bytes of a record hash to a `JobRecord`."""

from __future__ import annotations

import msgspec

from shared.jobs import Attempt, JobRecord, Kind, Priority, State
from shared.routes import Route
from shared.wire.codec import decode_error, decode_result, encode


class AttemptNotes(msgspec.Struct):
    """What a worker adds to an attempt when it settles it. Times in Unix seconds, `error` as stored."""

    backend: str = ""
    model: str = ""
    first_token_at: float | None = None
    error: bytes = b""


class Descriptions(msgspec.Struct, omit_defaults=True):
    """What a job's maker noted on its record, which the scripts only carry."""

    metadata: dict[str, str] = {}
    route: Route | None = None


_notes = msgspec.msgpack.Decoder(AttemptNotes)
_descriptions = msgspec.msgpack.Decoder(Descriptions)


def descriptions_of(metadata: dict[str, str], route: Route | None) -> bytes:
    """As the scripts take them; empty where there is nothing to note."""
    return encode(Descriptions(metadata, route)) if metadata or route is not None else b""


def notes_of(ended: bytes) -> AttemptNotes:
    """The notes in the end of an attempt, which is stored as `outcome|ms|notes`."""
    notes = ended.split(b"|", 2)[2]
    return _notes.decode(notes) if notes else AttemptNotes()


def _seconds(fields: dict[bytes, bytes], name: bytes) -> float | None:
    value = fields.get(name)
    return int(value) / 1000 if value else None


def parse(job_id: str, fields: dict[bytes, bytes], stored_result: bytes | None = None) -> JobRecord:
    """A record as `HGETALL` gives it, with the stored result if there is one."""
    state = State(fields[b"s"].decode())
    created_at = int(fields[b"ct"]) / 1000
    started_at, ended_at = _seconds(fields, b"sa"), _seconds(fields, b"ea")
    result = None
    if stored_result and state is State.SUCCEEDED:
        value = decode_result(stored_result).r
        result = value if isinstance(value, bytes) else None
    # A job that was retried keeps the last failure for its timeline; it is the job's error only if that was the end.
    error = decode_error(fields.get(b"er", b"")) if state.is_terminal and state is not State.SUCCEEDED else None
    noted = _descriptions.decode(fields[b"md"]) if b"md" in fields else Descriptions()
    replay_of = fields.get(b"ro", b"").decode()
    return JobRecord(
        id=job_id,
        kind=Kind(fields[b"k"].decode()),
        state=state,
        priority=Priority(fields[b"c"].decode()),
        tenant=fields[b"tn"].decode(),
        model=fields[b"m"].decode(),
        created_at=created_at,
        deadline_at=int(fields[b"dl"]) / 1000,
        updated_at=max(filter(None, (created_at, started_at, ended_at))),
        scheduled_for=_seconds(fields, b"at") if state is State.SCHEDULED else None,
        started_at=started_at,
        ended_at=ended_at,
        failures=int(fields.get(b"f", 0)),
        crashes=int(fields.get(b"x", 0)),
        # Of runs that were handed back with a delay only the latest is kept.
        attempts=[_attempt(fields, n) for n in range(1, int(fields.get(b"n", 0)) + 1) if b"a%d" % n in fields],
        metadata=noted.metadata,
        request_id=fields.get(b"rq", b"").decode(),
        result=result,
        error=error,
        cancel_requested=fields.get(b"cx") == b"1",
        keeps_events=fields.get(b"ev") == b"1",
        dead_letter_reason=error.code if error is not None and state is State.DEAD_LETTERED else "",
        replay_of=replay_of,
        # A replay may be for another model; then it no longer goes where the notes of its dead letter say.
        route=None if replay_of else noted.route,
        replayed_as=fields.get(b"ra", b"").decode(),
    )


def _attempt(fields: dict[bytes, bytes], number: int) -> Attempt:
    worker, _, started = fields[b"a%d" % number].decode().rpartition("|")
    attempt = Attempt(number=number, worker=worker, started_at=int(started) / 1000)
    end = fields.get(b"z%d" % number)
    if end is None:
        return attempt
    outcome, ended, notes = end.split(b"|", 2)
    attempt.outcome = outcome.decode()
    attempt.ended_at = int(ended) / 1000
    if notes:
        known = _notes.decode(notes)
        attempt.backend, attempt.model, attempt.first_token_at = known.backend, known.model, known.first_token_at
        attempt.error = decode_error(known.error)
    return attempt
