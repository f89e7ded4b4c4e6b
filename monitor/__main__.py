"""`python -m monitor`; with `--once` it prints one reading as JSON and ends."""

from __future__ import annotations

import argparse

from monitor.app import print_once, run
from monitor.settings import MonitorSettings
from shared.lifecycle import read_settings, run_service


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m monitor", description="Watches hosts, queue and models.")
    parser.add_argument("--once", action="store_true", help="print one reading as JSON and end")
    once = parser.parse_args().once
    settings = read_settings(MonitorSettings)
    await (print_once(settings) if once else run(settings))


if __name__ == "__main__":
    run_service("monitor", main)
