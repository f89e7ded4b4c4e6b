"""`python -m manager`."""

from __future__ import annotations

from manager.app import run
from manager.settings import ManagerSettings
from shared.lifecycle import read_settings, run_service


async def main() -> None:
    await run(read_settings(ManagerSettings))


if __name__ == "__main__":
    run_service("manager", main)
