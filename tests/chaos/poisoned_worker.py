"""A worker that a certain prompt kills, as a fault in a native library would: no exception, no farewell."""

from __future__ import annotations

import os
from typing import Any

from shared.backends.ollama import OllamaBackend
from shared.wire.canonical import ChatRequest
from tests.chaos.failing_worker import put
from worker.__main__ import main

POISON = "[poison]"
EXIT_CODE = 139
"""What a shell says of a segmentation fault."""


def arm() -> None:
    """Die in the place of the call to the model server when the prompt says so."""
    chat: Any = OllamaBackend.chat

    def fragile(backend: OllamaBackend, request: ChatRequest, **options: Any) -> Any:
        if any(POISON in str(message.content) for message in request.messages):
            os._exit(EXIT_CODE)
        return chat(backend, request, **options)

    put(OllamaBackend, "chat", fragile)


if __name__ == "__main__":
    arm()
    main()
