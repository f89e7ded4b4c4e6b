"""What every service does around its work: read settings, listen, say so, wait for the signal to stop.

A configuration fault ends the process with exit code 78 (EX_CONFIG of sysexits.h) and one readable list.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import uvloop
from aiohttp import web
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from shared.settings import (
    BARE_MILLISECONDS_FROM,
    BaseServiceSettings,
    LayeredSettings,
    is_bare_milliseconds,
    is_duration,
    parse_duration_s,
)
from shared.settings_sources import (
    Layer,
    UnreadableConfig,
    contradictions,
    find,
    known_names,
    misspelt,
    names_of,
    read_layers,
)
from shared.telemetry.log_file import Rotation
from shared.telemetry.logging import FileLog, configure_logging, logger

EXIT_CONFIG = 78
EXIT_SECOND_SIGNAL = 130

S = TypeVar("S", bound=LayeredSettings)


class ConfigFault(Exception):
    """The settings cannot work together or here. Each argument is one sentence saying what to change."""


def read_settings(settings_class: type[S]) -> S:
    """The settings from environment, .env and YAML file. Raises ConfigFault naming everything that is wrong."""
    try:
        faults = list(contradictions(settings_class, read_layers()))
        settings, wrong = _tolerant(settings_class)
    except UnreadableConfig as error:
        raise ConfigFault(str(error)) from None
    faults += [*wrong, *(settings.conflicts() if settings is not None else ())]
    if faults or settings is None:
        raise ConfigFault(*faults)
    return settings


def _tolerant(settings_class: type[S]) -> tuple[S | None, list[str]]:
    """The settings with defaults in place of values that are wrong, and what is wrong: so that conflicts between the
    other values are told in the same breath. None where not even that is possible."""
    try:
        return settings_class(), []
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
    # The values stay out of the sentences: one of them may be a password.
    sentences = [sentence(fault["loc"], fault["msg"]) for fault in faults]
    by_name = {name: field for field, info in settings_class.model_fields.items() for name in names_of(field, info)}
    wrong = {by_name.get(str(fault["loc"][0]), str(fault["loc"][0])) for fault in faults if fault["loc"]}
    fields = settings_class.model_fields
    defaults = {name: fields[name].get_default(call_default_factory=True) for name in wrong if name in fields}
    try:
        return settings_class(**defaults), sentences
    except ValidationError:
        return None, sentences


def sentence(place: Sequence[int | str], message: str) -> str:
    """What pydantic found wrong at a place, with the variable's name."""
    message = message.removeprefix("Value error, ")
    if not place:
        return message
    within = "".join(f".{part}" for part in place[1:] if isinstance(part, str))
    return f"{str(place[0]).upper()}{within}: {message}"


def open_logs(service: str, settings: BaseServiceSettings) -> None:
    """Set up this process' logs as the settings say, and log what looks odd about the settings. Raises ConfigFault."""
    file = None
    if settings.log_file:
        rotation = Rotation(settings.log_file_max_bytes, settings.log_file_backups, settings.log_file_max_age)
        file = FileLog(Path(settings.log_file), settings.log_file_level, rotation)
    try:
        configure_logging(service, settings.log_level, settings.log_format, file)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigFault(f"LOG_FILE: {settings.log_file} cannot be written ({reason}); name another file.") from None
    log, layers = logger("settings"), read_layers()
    odd = (*milliseconds(type(settings), layers), *misspellings([type(settings)], layers))
    for remark in (*odd, *settings.service_remarks()):
        log.warning("settings.remark", remark=remark)


def milliseconds(settings_class: type[BaseSettings], layers: Sequence[Layer]) -> Iterator[str]:
    """A sentence for each duration that was given as a bare number and is read as milliseconds."""
    for name, field in settings_class.model_fields.items():
        given = find(names_of(name, field), layers)
        if given is not None and is_duration(field) and is_bare_milliseconds(given.value):
            yield (
                f"{given.written} ({given.origin}) is read as {parse_duration_s(given.value):g} s: a bare number from "
                f"{BARE_MILLISECONDS_FROM:g} on is milliseconds. Write the unit."
            )


def misspellings(settings_classes: Sequence[type[BaseSettings]], layers: Sequence[Layer]) -> Iterator[str]:
    """A sentence for each name that none of these classes reads, but that looks like one that is."""
    for given, meant in misspelt(known_names(settings_classes), layers):
        yield f"{given.written} ({given.origin}) is not a setting and has no effect. Is {meant} meant?"


def exit_with_faults(service: str, fault: ConfigFault) -> NoReturn:
    print(f"{service}: cannot start, the configuration is wrong:", file=sys.stderr)
    for sentence in fault.args:
        print(f"  - {sentence}", file=sys.stderr)
    print(
        "Settings come from the environment, .env and config.yaml; `arriero config show` lists them, "
        "`arriero config check` looks at all services' at once.",
        file=sys.stderr,
    )
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
