"""Errors in the direct face's form. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gateway.settings import GatewaySettings
from shared.errors import BackendUnreachable, ErrorRecord

_NAMES = {BackendUnreachable.code: "OLLAMA_CONNECTION_ERROR"}
"""Names that callers know, where they are not simply our own code in capitals."""


def error_code(record: ErrorRecord) -> str:
    """Such as `MODEL_NOT_FOUND`."""
    return _NAMES.get(record.code, record.code.upper())


def error_type(code: str) -> str:
    """The code as the name of a class: `OLLAMA_CONNECTION_ERROR` is `OllamaConnectionError`."""
    name = "".join(word.capitalize() for word in code.split("_"))
    return name if name.endswith("Error") else f"{name}Error"


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectErrors:
    """Writes the bodies. Without `debug` they hold no `details`, which may name hosts.

    `url` and `timeout_s` are those of GET /health/ollama, so that whoever reads them can see the failure there.
    """

    debug: bool
    url: str
    timeout_s: float

    @classmethod
    def of(cls, settings: GatewaySettings) -> DirectErrors:
        return cls(
            debug=settings.debug, url=", ".join(settings.shown_model_hosts), timeout_s=settings.healthcheck_timeout
        )

    def body(self, record: ErrorRecord, request_id: str, now: datetime | None = None) -> dict[str, Any]:
        code = error_code(record)
        return {
            "success": False,
            "error": {
                "error_code": code,
                "message": record.message,
                "type": error_type(code),
                "details": self._details(record, request_id) if self.debug else {},
            },
            "timestamp": (now or datetime.now(UTC)).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }

    def _details(self, record: ErrorRecord, request_id: str) -> dict[str, Any]:
        details: dict[str, Any] = {"request_id": request_id, "retryable": record.retryable}
        if record.param:
            details["param"] = record.param
        if record.code == BackendUnreachable.code:
            details |= {"url": self.url, "timeout": self.timeout_s}
        return details
