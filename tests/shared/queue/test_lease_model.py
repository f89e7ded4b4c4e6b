"""The lease protocol holds in every state it can reach, and each of its ideas is needed: without it, a way to a broken
promise is found, and shown.
"""

from __future__ import annotations

import pytest

from tests.shared.queue.lease_model import Rules, Token, World, search, steps


@pytest.mark.req("S1-15")
def test_every_reachable_state_keeps_the_promises() -> None:
    verdict = search()
    assert not verdict.fault, str(verdict)
    assert verdict.states > 100_000, "so few states that something must have kept the protocol from moving"


WITHOUT = {
    "the fence": Rules(fence=False),
    "a new token for each claim": Rules(token=Token.KEPT),
    "tokens that Redis cannot repeat": Rules(token=Token.COUNTED),
    "one end": Rules(one_end=False),
}


@pytest.mark.parametrize("idea", WITHOUT)
def test_without_any_one_of_its_ideas_it_fails(idea: str) -> None:
    verdict = search(WITHOUT[idea])
    print(f"without {idea}, {verdict}")
    assert verdict.fault == "w1 settled a, which it did not hold"
    # The trace is a real one: its steps can be taken one after the other, from the start.
    world = World()
    for step in verdict.trace:
        world = dict(steps(world, WITHOUT[idea]))[step]
    assert world.fault == verdict.fault
    assert "under token 1" in verdict.trace[-1]


def test_a_counter_as_token_only_fails_with_a_redis_that_forgets() -> None:
    """Why tokens are drawn and not counted: the counter is lost with the tail, the old run is not."""
    [lost] = [step for step in search(Rules(token=Token.COUNTED)).trace if "loses" in step]
    assert lost == "Redis crashes and loses its tail"
