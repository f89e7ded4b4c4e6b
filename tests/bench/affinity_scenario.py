"""Row A1: four models, one host that holds one of them; first come, first served against what is in memory first."""

from __future__ import annotations

import json
import sys
import urllib.request

from tests.bench.arrivals import MODELS
from tests.bench.processes import wait_for_port
from tests.bench.roads import start_arriero
from tests.bench.rows import AFFINITY_JOB_S, PATIENCE_S
from tests.bench.workbench import Bench, Figures
from tests.house.redis_server import free_port

LOAD_S, LOAD_STEP_S = 2.0, 0.25
FIRST_TOKEN_S, TOKENS, TOKENS_PER_S = 0.05, 100, 200.0
"""Together `AFFINITY_JOB_S`."""
UTILISATION = 0.7
RESIDENCY_S = 5 * LOAD_S


def affinity(bench: Bench, peer: str) -> Figures:
    """`ollama`: no queue at all. Times are those of the simulated clock, `affinity_speed` times what passed here."""
    bench.redis.clear()
    speed, jobs = bench.sizes.affinity_speed, str(bench.sizes.affinity_jobs)
    children, port = bench.around.children, free_port()
    simulator_url = f"http://127.0.0.1:{port}"
    per_second = str(UTILISATION / AFFINITY_JOB_S * speed)
    with children.running("simulator", _simulator(port, speed)) as simulator:
        wait_for_port(simulator, port, timeout_s=20.0)
        arguments = ("--jobs", jobs, "--per-second", per_second, "--tokens", str(TOKENS))
        if peer == "ollama":
            seen = bench.program("arrivals", "--url", simulator_url, "--face", "chat", *arguments)
        else:
            road = start_arriero(bench.around, settings=_settings(simulator_url, speed, by_affinity=peer == "arriero"))
            try:
                seen = bench.program("arrivals", "--url", road.base_url, "--face", "jobs", *arguments)
            finally:
                bench.stop(road)
        loads = _loads(simulator_url)
    return {"loads": loads, "speed": speed, **{what: seconds * speed for what, seconds in seen.items()}}


def _simulator(port: int, speed: float) -> list[str]:
    options = {
        "port": port, "models": ",".join(MODELS), "max-loaded-models": 1, "parallel": 1,
        "load-seconds": LOAD_S / speed, "ready-poll-seconds": LOAD_STEP_S / speed,
        "first-token-seconds": FIRST_TOKEN_S / speed, "tokens-per-second": TOKENS_PER_S * speed,
    }  # fmt: skip
    command = [sys.executable, "-m", "infra.simulator"]
    return command + [f"--{name}={value}" for name, value in options.items()]


def _settings(simulator_url: str, speed: float, *, by_affinity: bool) -> dict[str, str]:
    """The defaults at this speed, and what the simulated host can do."""
    waits = {f"COLD_WAIT_{name.upper()}": str(patience_s / speed) for name, patience_s in PATIENCE_S.items()}
    return {
        "OLLAMA_BASE_URL": simulator_url,
        "ENABLE_GPU_OPTIMIZATION": str(by_affinity).lower(),
        "MAX_CONCURRENT_REQUESTS": "1",
        "OLLAMA_NUM_PARALLEL": "1",
        "OLLAMA_MAX_LOADED_MODELS": "1",
        "MODEL_RESIDENCY": str(RESIDENCY_S / speed),
        **waits,
    }


def _loads(simulator_url: str) -> float:
    with urllib.request.urlopen(f"{simulator_url}/_sim/calls?event=load") as answer:
        return float(len(json.load(answer)["calls"]))
