"""`python -m gateway`: read settings, serve until SIGTERM, drain, exit 0."""

from __future__ import annotations

import functools

from gateway.app import Gateway
from gateway.settings import GatewaySettings
from shared.garbage import collect_seldom
from shared.lifecycle import (
    ConfigFault,
    StopSignal,
    announce,
    exit_with_faults,
    open_logs,
    read_settings,
    run_service,
)
from shared.telemetry.logging import logger


async def serve(settings: GatewaySettings) -> None:
    stop = StopSignal()
    stop.install()
    gateway = Gateway(settings)
    await gateway.start()
    collect_seldom()
    try:
        announce("gateway", settings.gateway_host, gateway.port)
        await stop.wait()
        logger("gateway").info("gateway.draining")
        await gateway.drain()
    finally:
        await gateway.stop()


def main() -> None:
    try:
        settings = read_settings(GatewaySettings)
        open_logs("gateway", settings)
    except ConfigFault as fault:
        exit_with_faults("gateway", fault)
    run_service("gateway", functools.partial(serve, settings))


if __name__ == "__main__":
    main()
