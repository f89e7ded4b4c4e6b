"""The scenarios: what is done once, for one peer, to get figures. The runner repeats them in turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.bench import append_only_scenario, gateway_scenarios, memory_scenarios, queue_scenarios
from tests.bench.affinity_scenario import affinity
from tests.bench.depth_scenario import depth
from tests.bench.queue_programs import QUEUES
from tests.bench.workbench import Bench, Figures


@dataclass(slots=True, frozen=True, kw_only=True)
class Scenario:
    """Peers take their turns in this order. `once`: too long to repeat."""

    peers: tuple[str, ...]
    measure: Callable[[Bench, str], Figures]
    once: bool = False

    def turns(self, able: Sequence[str]) -> list[tuple[str, ...]]:
        """Who is measured together, one after the other."""
        return [(peer,) for peer in able]

    def take(self, bench: Bench, turn: tuple[str, ...]) -> dict[str, Figures]:
        """Measure those whose turn it is. Raises BenchError."""
        return {peer: self.measure(bench, peer) for peer in turn}


@dataclass(slots=True, frozen=True, kw_only=True)
class SideBySide:
    """All peers are up at once and measured in slices of one turn. Without one of them there is nothing to measure."""

    peers: tuple[str, ...]
    measure: Callable[[Bench], dict[str, Figures]]
    once: bool = False

    def turns(self, able: Sequence[str]) -> list[tuple[str, ...]]:
        return [self.peers] if set(able) == set(self.peers) else []

    def take(self, bench: Bench, turn: tuple[str, ...]) -> dict[str, Figures]:
        return self.measure(bench)


def clients(bench: Bench, peer: str) -> Figures:
    """A library and an event loop, against the stub alone."""
    url, sizes = bench.around.stub_url, bench.sizes
    arguments = ("--requests", str(sizes.chats_one), "--seconds", str(sizes.chat_s))
    return bench.program("http_clients", peer, "--url", url, *arguments)


_QUEUES = tuple(QUEUES)
SCENARIOS: dict[str, Scenario | SideBySide] = {
    "throughput": Scenario(peers=_QUEUES, measure=queue_scenarios.throughput),
    "roundtrip": Scenario(peers=_QUEUES, measure=queue_scenarios.roundtrip),
    "idle": Scenario(peers=tuple(peer for peer in _QUEUES if peer != "arq-stock"), measure=queue_scenarios.idle),
    "chat": Scenario(peers=("direct", "bare-proxy", "litellm", "portkey", "arriero"), measure=gateway_scenarios.chat),
    # Portkey 1.15.2 answers streams with an error on Node 20.
    "stream": Scenario(peers=("direct", "bare-proxy", "litellm", "arriero"), measure=gateway_scenarios.stream),
    "flat": Scenario(peers=("direct", "bare-proxy", "litellm", "arriero"), measure=gateway_scenarios.flat),
    "intake": Scenario(peers=("bare-parse", "bare-arq", "arriero"), measure=gateway_scenarios.intake),
    "append-only": SideBySide(peers=tuple(append_only_scenario.PEERS), measure=append_only_scenario.append_only),
    "embeddings": Scenario(peers=("arriero-unbatched", "arriero"), measure=gateway_scenarios.embeddings),
    "clients": Scenario(peers=("httpx-asyncio", "httpx-uvloop", "aiohttp-asyncio", "aiohttp-uvloop"), measure=clients),
    "memory": Scenario(peers=("arriero",), measure=memory_scenarios.memory, once=True),
    "streams": Scenario(peers=("arriero",), measure=memory_scenarios.streams, once=True),
    "affinity": Scenario(peers=("ollama", "arriero-fifo", "arriero"), measure=affinity, once=True),
    "depth": Scenario(peers=("queued-100", "queued-10000", "queued-1000000"), measure=depth),
}
"""In the order they are run: those that clear Redis under a gateway's feet stop the gateways first."""
