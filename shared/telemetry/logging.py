"""Structured logs on standard error: JSON, or colours on a terminal; and, if wanted, as JSON in a file.

Ids are set once per job or request (`REQUEST_ID`, `JOB_ID`, `ATTEMPT`) and are on every line that is logged there.
Prompts, answers and keys are never put into an event; `LOG_PROMPTS` is for the code that would, to ask.
"""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import structlog
from structlog.contextvars import STRUCTLOG_KEY_PREFIX
from structlog.typing import EventDict, Processor, WrappedLogger

from shared.telemetry.log_file import LogFile, Rotation

# What `structlog.contextvars.bind_contextvars` would make, and look up by name each time.
REQUEST_ID: Final[ContextVar[str]] = ContextVar(f"{STRUCTLOG_KEY_PREFIX}request_id")
JOB_ID: Final[ContextVar[str]] = ContextVar(f"{STRUCTLOG_KEY_PREFIX}job_id")
ATTEMPT: Final[ContextVar[int]] = ContextVar(f"{STRUCTLOG_KEY_PREFIX}attempt")

_LONGEST_VALUE = 2000
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_CONTROL_BUT_NEWLINE = {code: text for code, text in _CONTROL.items() if code != 0x0A}


def escape_control(text: str) -> str:
    """Text without control characters, so that no caller can forge a line or drive a terminal; at most 2000
    characters.
    """
    if len(text) > _LONGEST_VALUE:
        text = text[:_LONGEST_VALUE] + "..."
    # Almost every value is printable, and asking is far cheaper than translating.
    return text if text.isprintable() else text.translate(_CONTROL)


def _escape_values(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if isinstance(value, str) and key != "exception":
            event[key] = escape_control(value)
        elif value is not None and not isinstance(value, str | int | float | bool):
            event[key] = escape_control(repr(value))
    if "exception" in event:
        event["exception"] = str(event["exception"]).translate(_CONTROL_BUT_NEWLINE)
    return event


_encode_json = msgspec.json.Encoder().encode


def _as_json(logger: WrappedLogger, method: str, event: EventDict) -> str:
    return _encode_json(event).decode()


@dataclass(frozen=True, slots=True)
class FileLog:
    """The file that is logged to besides standard error, from `level` on."""

    path: Path
    level: str
    rotation: Rotation


def configure_logging(service: str, level: str = "INFO", form: str = "auto", file: FileLog | None = None) -> None:
    """Set up structlog and the standard library's logging for this process.

    `level` is DEBUG, INFO, WARNING or ERROR; `form` is auto, json or console. Raises OSError when `file` cannot be
    opened.
    """
    console = form == "console" or (form == "auto" and sys.stderr.isatty())

    def add_service(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    shape: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_service,
    ]
    as_json: list[Processor] = [structlog.processors.format_exc_info, _escape_values, _as_json]
    as_text: list[Processor] = [_escape_values, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    render = as_text if console else as_json

    while _open_files:
        _open_files.pop().close()
    # Libraries log through the standard library; their lines take the same form.
    handlers = [_handler(logging.StreamHandler(sys.stderr), level, shape, render)]
    least = logging.getLevelName(level)
    sinks: list[Processor] = render
    if file is not None:
        written = LogFile(file.path, file.rotation)
        _open_files.append(written)
        handlers.append(_handler(_LineHandler(written), file.level, shape, as_json))
        sinks = [_both((level, render), (file.level, as_json), written)]
        least = min(least, logging.getLevelName(file.level))
    structlog.configure(
        processors=[*shape, *sinks],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = handlers
    root.setLevel(least)
    # aiohttp's parser complains at ERROR about every malformed request; the gateway answers and counts those itself.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(max(logging.WARNING, least))


_open_files: list[LogFile] = []
"""At most one: the file of the last `configure_logging`."""


class _LineHandler(logging.Handler):
    def __init__(self, file: LogFile) -> None:
        super().__init__()
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        self._file.write(self.format(record))


def _handler(handler: logging.Handler, level: str, shape: list[Processor], render: list[Processor]) -> logging.Handler:
    handler.setLevel(level)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shape, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render]
        )
    )
    return handler


Target = tuple[str, list[Processor]]


def _both(console: Target, filed: Target, file: LogFile) -> Processor:
    """A last step that renders an event for the file and for the console, each only if its level is reached."""
    console_level, file_level = (logging.getLevelName(level) for level, _ in (console, filed))

    def render(logger: WrappedLogger, method: str, event: EventDict) -> str:
        severity = logging.getLevelName(str(event["level"]).upper())
        if severity >= file_level:
            # A copy each: rendering takes the event apart.
            file.write(_rendered(filed[1], logger, method, dict(event)))
        if severity < console_level:
            raise structlog.DropEvent
        return _rendered(console[1], logger, method, event)

    return render


def _rendered(processors: list[Processor], logger: WrappedLogger, method: str, event: EventDict) -> str:
    value: object = event
    for process in processors:
        value = process(logger, method, value)  # type: ignore[arg-type]  # each takes what the one before gave
    return str(value)


def logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose events are named `<name>.<what happened>` by the caller."""
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger(part=name)
    return bound
