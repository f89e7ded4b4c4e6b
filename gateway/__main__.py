"""`python -m gateway`: read settings, serve until SIGTERM, drain, exit 0."""

from __future__ import annotations

import functools

from gateway.app import Gateway
from gateway.settings import GatewaySettings
from shared.lifecycle import ConfigFault, StopSignal, announce, exit_with_faults, read_settings, run_service
from shared.telemetry.logging import configure_logging, logger


async def serve(settings: GatewaySettings) -> None:
    stop = StopSignal()
    stop.install()
    gateway = Gateway(settings)
    await gateway.start()
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
    except ConfigFault as fault:
        exit_with_faults("gateway", fault)
    configure_logging("gateway", settings.log_level, settings.log_format)
    run_service("gateway", functools.partial(serve, settings))


if __name__ == "__main__":
    main()
