"""Errors in Ollama's shapes and words."""

from __future__ import annotations

import msgspec

BUSY_TEXT = "server busy, please try again.  maximum pending requests exceeded"
RUNNER_STOPPED_TEXT = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check ollama server logs for details"
)
RUNNER_DIED_TEXT = "an error was encountered while running the model: unexpected EOF"

_OPENAI_TYPES = {400: "invalid_request_error", 404: "not_found_error"}


class ApiError(Exception):
    """A request that gets an error status; `text` is what Ollama would say."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.text = text
        super().__init__(text)

    def native_body(self) -> bytes:
        return msgspec.json.encode({"error": self.text})

    def openai_body(self) -> bytes:
        kind = _OPENAI_TYPES.get(self.status, "api_error")
        return msgspec.json.encode({"error": {"message": self.text, "type": kind, "param": None, "code": None}})


def busy() -> ApiError:
    return ApiError(503, BUSY_TEXT)


def runner_error(status: int, message: str, kind: str = "invalid_request_error", **details: int) -> ApiError:
    """An error of the model's runner: Ollama passes its JSON on as the text of its own error."""
    nested = {"error": {"code": status, "message": message, "type": kind, **details}}
    return ApiError(status, msgspec.json.encode(nested).decode())


def not_found(name: str) -> ApiError:
    return ApiError(404, f"model '{name}' not found")


def not_found_for_embedding(name: str) -> ApiError:
    """Embedding routes spell the same fact differently, unless no name was given at all."""
    return ApiError(404, f'model "{name}" not found, try pulling it first') if name else not_found(name)


def default_text(status: int) -> str:
    """What a server that answers `status` out of the blue would most likely say."""
    if status == 503:
        return BUSY_TEXT
    if status == 404:
        return "model 'unknown' not found"
    if status == 499:
        return "request canceled"
    return RUNNER_STOPPED_TEXT if status >= 500 else "bad request"
