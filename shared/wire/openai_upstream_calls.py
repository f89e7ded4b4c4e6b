"""Tool calls put together from the pieces in which a stream brings them. Pure."""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from shared.backends.ollama_answers import not_understood
from shared.errors import AnswerIncomplete
from shared.wire.canonical import ToolCall

MAX_CALLS = 512
MAX_ARGUMENTS_CHARS = 4 * 1024 * 1024
"""Of all calls of an answer together."""

_OBJECT = msgspec.json.Decoder(dict[str, Any])


class FunctionPiece(msgspec.Struct):
    """`arguments` is a piece of JSON text; some servers send the whole object instead."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class CallPiece(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: FunctionPiece | None = None


class _Call:
    __slots__ = ("arguments", "id", "name")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []


class CallAssembly:
    """The calls of one answer, in the order in which they began."""

    __slots__ = ("_by_index", "_calls", "_chars")

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._chars = 0

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, piece: CallPiece) -> None:
        """Raises BackendProtocolError for more than can be meant."""
        call = self._call(piece)
        call.id = call.id or piece.id or ""
        if piece.function is None:
            return
        call.name = call.name or piece.function.name or ""
        arguments = piece.function.arguments
        if isinstance(arguments, dict):
            arguments = msgspec.json.encode(arguments).decode()
        if arguments:
            self._chars += len(arguments)
            if self._chars > MAX_ARGUMENTS_CHARS:
                raise not_understood(f"its tool calls are longer than {MAX_ARGUMENTS_CHARS} characters")
            call.arguments.append(arguments)

    def _call(self, piece: CallPiece) -> _Call:
        """The call that a piece belongs to: the one of its index, or the last one."""
        last = self._calls[-1] if self._calls else None
        call = last if piece.index is None else self._by_index.get(piece.index)
        if call is None or _begins_another(call, piece):
            if len(self._calls) >= MAX_CALLS:
                raise not_understood(f"it calls more than {MAX_CALLS} tools")
            call = _Call()
            self._calls.append(call)
        if piece.index is not None:
            self._by_index[piece.index] = call
        return call

    def whole(self, *, cut_short: bool) -> list[ToolCall]:
        """The calls. Of an answer that was `cut_short` by its limit, those that were finished.

        Raises AnswerIncomplete where the model wrote a call without a name, or arguments that are not an object.
        """
        calls = []
        for call in self._calls:
            arguments = "".join(call.arguments).strip() or "{}"
            if call.name and _is_object(arguments):
                calls.append(
                    ToolCall(id=call.id or f"call_{secrets.token_hex(12)}", name=call.name, arguments=arguments)
                )
            elif not cut_short:
                raise AnswerIncomplete(
                    "The model wrote a tool call without a name, or whose arguments are not a JSON object. Try again."
                )
        return calls


def _begins_another(call: _Call, piece: CallPiece) -> bool:
    """Whether a piece is the start of a new call, whatever its index: some servers number every call 0."""
    if piece.id:
        return bool(call.id) and piece.id != call.id
    return bool(call.name) and piece.function is not None and bool(piece.function.name)


def _is_object(text: str) -> bool:
    try:
        _OBJECT.decode(text)
    except (ValueError, RecursionError):
        return False
    return True
