"""From an exception to one clear line and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pydantic import ValidationError

from arriero.errors import ApiError, ArrieroClientError, GatewayUnreachable
from shared.settings_sources import UnreadableConfig

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_DEGRADED = 3
EXIT_UNAVAILABLE = 69
EXIT_CONFIG = 78
EXIT_INTERRUPTED = 130
_OF_CODE = {"invalid_request": EXIT_USAGE, "registry_unavailable": EXIT_UNAVAILABLE}
_OF_HTTP_STATUS = {429: EXIT_UNAVAILABLE, 503: EXIT_UNAVAILABLE}


def status_of(http_status: int, code: str) -> int:
    """The exit status for a refusal; its `code` counts first: a model's 400 is no wrong usage."""
    return _OF_CODE.get(code) or _OF_HTTP_STATUS.get(http_status, EXIT_FAILED)


class CommandFailed(Exception):
    """A command's own failure: one line that says what to do, and the exit status."""

    def __init__(self, message: str, exit_status: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_status = exit_status


def reported() -> tuple[type[BaseException], ...]:
    """What `report` has words for. Anything else is a defect and keeps its traceback."""
    return (CommandFailed, ArrieroClientError, UnreadableConfig, ValidationError, UnicodeDecodeError)


def report(exc: BaseException) -> int:
    """Print the line to stderr; the exit status."""
    text, status = describe(exc)
    sys.stderr.write(f"arriero: {text}\n")
    return status


def describe(exc: BaseException) -> tuple[str, int]:
    if isinstance(exc, CommandFailed):
        return str(exc), exc.exit_status
    if isinstance(exc, GatewayUnreachable):
        return (
            f"{exc}: start it with `make run` (or `arriero up`), or say where it is with ARRIERO_URL",
            EXIT_UNAVAILABLE,
        )
    if isinstance(exc, ApiError):
        return _describe_api_error(exc)
    if isinstance(exc, ValidationError):
        # Without the values: one of them may be a secret.
        faults = exc.errors(include_url=False, include_input=False, include_context=False)
        return "; ".join(_describe_fault(fault["loc"], fault["msg"]) for fault in faults), EXIT_CONFIG
    if isinstance(exc, UnicodeDecodeError):
        return f"what is read here must be UTF-8 text; byte {exc.start} is not", EXIT_USAGE
    if isinstance(exc, UnreadableConfig):
        return str(exc), EXIT_CONFIG
    return str(exc), EXIT_FAILED


def _describe_fault(place: Sequence[int | str], message: str) -> str:
    name = ".".join(str(part) for part in place).upper()
    return f"setting {name}: {message.removeprefix('Value error, ')}" if name else message.removeprefix("Value error, ")


def _describe_api_error(exc: ApiError) -> tuple[str, int]:
    if exc.status == 401:
        return (
            f"{exc.message} Set ARRIERO_API_KEY; `arriero keys create --tenant <name> --role inference` makes a key.",
            EXIT_CONFIG,
        )
    status = status_of(exc.status, exc.code)
    again = f" Try again in {exc.retry_after_s:g} s." if exc.retry_after_s and status == EXIT_UNAVAILABLE else ""
    return exc.message + again, status
