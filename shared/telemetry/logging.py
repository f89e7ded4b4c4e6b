"""Structured logs on standard error: JSON, or colours on a terminal.

Ids are bound once per job or request (`structlog.contextvars.bound_contextvars(request_id=..., job_id=...)`). Prompts,
answers and keys are never put into an event; `LOG_PROMPTS` is for the code that would, to ask.
"""

from __future__ import annotations

import logging
import sys

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

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


def configure_logging(service: str, level: str = "INFO", form: str = "auto") -> None:
    """Set up structlog and the standard library's logging for this process.

    `level` is DEBUG, INFO, WARNING or ERROR; `form` is auto, json or console.
    """
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    shape: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if console:
        render: list[Processor] = [_escape_values, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    else:
        render = [structlog.processors.format_exc_info, _escape_values, _as_json]

    def add_service(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    structlog.configure(
        processors=[*shape, add_service, *render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Libraries log through the standard library; their lines take the same form.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shape, add_service],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # aiohttp's parser complains at ERROR about every malformed request; the gateway answers and counts those itself.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(max(logging.WARNING, logging.getLevelName(level)))


def logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose events are named `<name>.<what happened>` by the caller."""
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger(part=name)
    return bound
