"""A real Prometheus looks at a stack on which everything goes wrong: each panel shows something, each alert fires."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import httpx
import pytest

from tests.infra.declared_metrics import declared
from tests.infra.prometheus_files import alerts, panel_expressions, recorded, with_all_chosen
from tests.integration.processes import eventually
from tests.integration.prometheus_server import Prometheus, Watch, is_installed
from tests.integration.stack import Stack
from tests.integration.trouble import SETTINGS, Scene

# Slow, and by its nature in a hurry: whether a frozen worker writes before it is told that it has lost its jobs is
# chance. `make test-integration` runs it.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_installed(), reason="needs prometheus and promtool (Debian: prometheus)"),
    pytest.mark.timeout(180),
]
EASY = {
    "ArrieroQueueBacklog": "8",
    "ArrieroQueueDelay": "2",
    "ArrieroDeadLetters": "0",
    "ArrieroModelSlow": "0.001",
    "ArrieroModelFailing": "0.001",
    "ArrieroModelUnwell": "99",
    "ArrieroGatewayErrors": "0.001",
    "ArrieroJobsRefused": "0.001",
    # What the machine does is not ours to provoke: any use at all fires.
    "ArrieroProcessorBusy": "0",
    "ArrieroMemoryFull": "0",
    "ArrieroDiskFull": "0",
}
"""Thresholds that a test reaches in a moment."""
ELSEWHERE = {
    "ArrieroTwoLeaders": "the fence forbids it: tests/infra/alert_cases.py",
    "ArrieroReadingsOld": "a minute of silence: tests/infra/alert_cases.py",
}
MAY_STAY_ZERO = {
    "arriero_host_swap_used_bytes": "this machine may have no swap",
    "arriero_host_swap_total_bytes": "likewise",
    "llm_worker_lost_leases_total": "a refused write may tell first; tests/chaos/scenarios/zombies.py sees both",
}
"""Metrics that need not move here, and why."""
PATIENCE_S = 25.0
"""How long an alert may take to fire; most take a second or two."""


@dataclass(frozen=True, slots=True)
class Seen:
    """`silent`: names of panels, records and alerts that had no sample. `moved`: series that were once other than 0.
    `pages`: a metrics page of each service."""

    silent: set[str]
    faults: list[str]
    moved: set[str]
    pages: dict[str, str]


def expressions() -> dict[str, str]:
    """What must have a sample at some time: each panel's queries, each recorded figure, each alert as it fires."""
    firing = {name: f'ALERTS{{alertname="{name}", alertstate="firing"}}' for name in alerts()}
    panels = {name: with_all_chosen(text, "10s") for name, text in panel_expressions().items()}
    return {**panels, **{name: name for name in recorded()}, **firing}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    folder = tmp_path_factory.mktemp("prometheus")
    with Stack(simulator=("--pull-seconds", "1", "--load-seconds", "0.2"), **SETTINGS) as stack:
        scene = Scene(stack, folder)
        prometheus = Prometheus(folder, scene.targets, scene.key_file, EASY)
        # Early, since it takes a few seconds to look at its targets for the first time.
        prometheus.start()
        try:
            scene.wait()
            prometheus.wait()
            targets = sum(map(len, scene.targets.values()))
            eventually(lambda: len(prometheus.query("up == 1")) == targets, 20, "all are scraped")
            with Watch(prometheus, expressions()) as watch:
                pages = play(scene, watch)
            moved = prometheus.moved('{job=~"gateway|worker|manager|monitor"}')
            return Seen(watch.unseen, watch.faults, moved, pages)
        finally:
            prometheus.stop()


def play(scene: Scene, watch: Watch) -> dict[str, str]:
    """Everything that can go wrong, by and by. A metrics page of each service, from the better days."""

    def until(*alerts: str) -> None:
        # One that does not come fails a test of its own, later; the others shall have their turn.
        with suppress(AssertionError):
            eventually(lambda: watch.has_seen(*alerts), PATIENCE_S, f"{alerts} fire")

    stack = scene.stack
    with scene.load(), ThreadPoolExecutor(1) as beside:
        orders = beside.submit(scene.order_models)
        scene.annoy_the_gateway()
        scene.hurry()
        orders.result()
        until("ArrieroGpuBusy", "ArrieroGpuMemoryFull", "ArrieroGpuHot", "ArrieroModelSlow")
        pages = {job: metrics_page(address, scene.key) for job, (address, *_) in scene.targets.items()}
        scene.fail_calls()
        scene.show_gpus(None)
        until("ArrieroCircuitOpen", "ArrieroModelFailing", "ArrieroDeadLetters", "ArrieroCollectorFailing")
        stack.simulator.behave()
    scene.crowd()
    scene.freeze()
    until("ArrieroQueueBacklog", "ArrieroQueueDelay", "ArrieroWorkerCrashed", "ArrieroStaleWrites")
    scene.clear()
    scene.end_workers()
    stack.simulator.kill()
    until("ArrieroReplicaDown", "ArrieroModelHostDown", "ArrieroAllModelHostsDown", "ArrieroModelMissing")
    until("ArrieroNoWorker")
    stack.redis.kill()
    with scene.load():
        until("ArrieroRedisDown", "ArrieroNoLeader", "ArrieroGatewayErrors")
    for program in (scene.gateway, scene.manager, scene.monitor):
        program.kill()
    until("ArrieroGatewayDown", "ArrieroManagerDown", "ArrieroMonitorDown")
    return pages


def metrics_page(address: str, key: str) -> str:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.get(f"http://{address}/metrics", headers=headers, trust_env=False).raise_for_status().text


def test_prometheus_understands_everything(seen: Seen) -> None:
    assert not seen.faults[:5]


@pytest.mark.req("D-06")
def test_every_panel_shows_something(seen: Seen) -> None:
    assert not seen.silent & (panel_expressions().keys() | recorded().keys())


@pytest.mark.req("S1-61", "S1-62", "S1-63", "S1-64", "D-07")
@pytest.mark.parametrize("alert", sorted(alerts().keys() - ELSEWHERE.keys()))
def test_the_alert_fires(seen: Seen, alert: str) -> None:
    assert alert not in seen.silent


def test_what_is_not_provoked_did_not_happen(seen: Seen) -> None:
    assert ELSEWHERE.keys() <= seen.silent


@pytest.mark.req("S1-22")
def test_no_metric_is_dead(seen: Seen) -> None:
    """Each declared metric was scraped, and was at some time other than 0."""
    dead = {metric.name for metric in declared() if not set(metric.samples) & seen.moved}
    assert dead <= MAY_STAY_ZERO.keys()


@pytest.mark.req("S1-22")
@pytest.mark.parametrize("service", ["gateway", "worker", "manager", "monitor"])
def test_promtool_finds_no_fault_with_a_page(seen: Seen, service: str) -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=seen.pages[service],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
