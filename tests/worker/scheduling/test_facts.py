"""What a call of a model would make a host do, from what is known of the host."""

from __future__ import annotations

import pytest

from shared.queue.plans import CALL
from worker.scheduling.facts import HostFacts, Swap

THERE = {"a": 0}
TWO = {"a": 0, "b": 0}
ONE_CALL = {"a": CALL}


@pytest.mark.req("S1-33")
@pytest.mark.parametrize(
    ("host", "swap"),
    [
        (HostFacts(name="h", resident={"x": 0}, room=1), Swap.NONE),
        (HostFacts(name="h", calls={"x": CALL}, room=1), Swap.NONE),
        (HostFacts(name="h", resident=TWO, room=2, has_all=True), Swap.NONE),
        (HostFacts(name="h", resident=THERE, room=2), Swap.LOAD),
        (HostFacts(name="h", resident=TWO, room=0), Swap.LOAD),
        (HostFacts(name="h", resident=TWO, models=1, room=2), Swap.LOAD),
        (HostFacts(name="h", resident=TWO, calls=ONE_CALL, room=2), Swap.REPLACE),
        (HostFacts(name="h", resident=THERE, calls=ONE_CALL, room=1), Swap.EVICT),
        (HostFacts(name="h", resident=THERE, calls={"a": CALL, "b": CALL}, room=2), Swap.EVICT),
    ],
    ids=[
        "in memory", "being loaded", "needs no loading", "has room", "never full", "two names of one model",
        "one idle", "all in use", "the last room is being filled",
    ],
)  # fmt: skip
def test_what_a_call_would_cost(host: HostFacts, swap: Swap) -> None:
    assert host.swap("x") is swap
