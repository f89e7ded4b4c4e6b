"""What every service does around its work: read settings, listen, say so, wait for the signal to stop.

A configuration fault ends the process with exit code 78 (EX_CONFIG of sysexits.h) and one readable list.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

import uvloop
from aiohttp import web
from pydantic import ValidationError

from shared.settings import BaseServiceSettings

EXIT_CONFIG = 78
EXIT_SECOND_SIGNAL = 130

S = TypeVar("S", bound=BaseServiceSettings)


class ConfigFault(Exception):
    """The settings cannot work together or here. Each argument is one sentence saying what to change."""


def read_settings(settings_class: type[S]) -> S:
    """The settings from environment and .env file. Raises ConfigFault naming each variable that is wrong."""
    try:
        return settings_class()
    except ValidationError as error:
        faults = []
        for fault in error.errors(include_url=False, include_input=False, include_context=False):
            name = ".".join(str(part) for part in fault["loc"]).upper() or "settings"
            faults.append(f"{name}: {fault['msg']}")
        # The values stay out: one of them may be a password.
        raise ConfigFault(*faults) from None


def exit_with_faults(service: str, fault: ConfigFault) -> NoReturn:
    print(f"{service}: cannot start, the configuration is wrong:", file=sys.stderr)
    for sentence in fault.args:
        print(f"  - {sentence}", file=sys.stderr)
    print("Settings come from the environment and .env; `arriero config show` lists them.", file=sys.stderr)
    sys.exit(EXIT_CONFIG)


def run_service(service: str, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `main()` on uvloop until it returns. Exit code 78 for a ConfigFault."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
    except ConfigFault as fault:
        exit_with_faults(service, fault)


class StopSignal:
    """Set by SIGTERM or SIGINT; a second one ends the process at once. Use inside the running loop."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def install(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.request)

    def request(self) -> None:
        if self._event.is_set():
            # Whoever asks twice does not want to wait for the drain.
            os._exit(EXIT_SECOND_SIGNAL)
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()


async def listen(runner: web.BaseRunner, service: str, host: str, port: int) -> tuple[web.TCPSite, int]:
    """Listen and return the site and the port really bound. Raises ConfigFault when the address cannot be had."""
    site = web.TCPSite(runner, host, port, backlog=1024)
    try:
        await site.start()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigFault(
            f"{service.upper()}_PORT: {host}:{port} cannot be listened on ({reason}). "
            "Choose another port, or 0 for any free one."
        ) from error
    return site, runner.addresses[0][1]


def announce(service: str, host: str, port: int) -> None:
    """The one line that tells who started the process that it is ready, and where."""
    shown = f"[{host}]" if ":" in host else host
    print(f"{service} listening on http://{shown}:{port}", flush=True)
