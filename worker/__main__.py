"""`python -m worker`: settings from the environment, jobs from the queue."""

from __future__ import annotations

import argparse

from shared.lifecycle import ConfigFault, exit_with_faults, open_logs, read_settings, run_service
from worker.app import run
from worker.processes import supervise
from worker.settings import WorkerSettings


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m worker",
        description="Runs jobs from the queue. Settings: environment (WORKER_*, OLLAMA_*, REDIS_*) or .env.",
    )
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="worker processes to run (default 1)")
    processes = parser.parse_args().processes
    if not 1 <= processes <= 256:
        parser.error("--processes must be between 1 and 256")
    try:
        settings = read_settings(WorkerSettings)
        open_logs("worker", settings)
    except ConfigFault as fault:
        exit_with_faults("worker", fault)
    run_service("worker", lambda: run(settings) if processes == 1 else supervise(settings, processes))


if __name__ == "__main__":
    main()
