"""`python -m monitor`."""

from __future__ import annotations

from monitor.app import run
from monitor.settings import MonitorSettings
from shared.lifecycle import read_settings, run_service


async def main() -> None:
    await run(read_settings(MonitorSettings))


if __name__ == "__main__":
    run_service("monitor", main)
