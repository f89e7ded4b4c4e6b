"""What a worker saw on a host: the models in its memory. One worker looks for all, and leaves it in Redis."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Resident(msgspec.Struct, frozen=True):
    """A model in a host's memory. Times in Unix seconds by the looking worker's clock."""

    model: str
    """Spelled as `shared.model_names.same` does."""
    context: int = 0
    """Tokens; 0 where the host does not say."""
    since: float = 0.0
    until: float = 0.0
    """When it leaves memory if nobody uses it; 0 where the host does not say."""


class Sighting(msgspec.Struct, frozen=True):
    """A look at one host. `room`: how many models its memory was seen to hold at most; 0 while it has always had room
    for one more."""

    at: float
    residents: list[Resident] = []
    room: int = 0

    def packed(self) -> bytes:
        return _encode(self)


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Sighting)


def read_sighting(packed: bytes) -> Sighting | None:
    """None for one of a release that this one does not understand."""
    try:
        return _decoder.decode(packed)
    except msgspec.MsgspecError:
        return None


def next_sighting(before: Sighting | None, now: float, seen: Iterable[Resident]) -> Sighting:
    """What to leave after a look, knowing the last one.

    A model that went before its time when another came was pushed out: then the memory holds no more than is in it now.
    A host that holds more than it was thought to has more room.
    """
    known = {(r.model, r.context): r for r in before.residents} if before else {}
    residents = [
        Resident(r.model, r.context, since=known[r.model, r.context].since if (r.model, r.context) in known else now,
                 until=r.until)
        for r in seen
    ]  # fmt: skip
    # By model: one that was loaded anew for another context pushed nothing out.
    here = {r.model for r in residents}
    there = {model for model, _ in known}
    pushed_out = any(r.until > now for r in known.values() if r.model not in here)
    came = bool(here - there) and before is not None
    room = before.room if before else 0
    if pushed_out and came:
        room = len(residents)
    elif room:
        room = max(room, len(residents))
    return Sighting(at=now, residents=residents, room=room)
