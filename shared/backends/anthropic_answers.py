"""The events of one streamed answer of the Messages API, in canonical form. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from shared.backends.anthropic_errors import ServiceError, classify_event, not_understood
from shared.backends.anthropic_requests import ANSWER_TOOL
from shared.wire.canonical import Delta, Finish, FinishReason, ToolCall, Usage

MAX_INPUT_CHARS = 8 * 1024 * 1024
"""For one tool call's arguments, which are kept until they are whole."""

REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None


class _Message(msgspec.Struct):
    usage: _Usage | None = None


class _Block(msgspec.Struct):
    type: str
    id: str = ""
    name: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    input: dict[str, Any] | None = None


class _Delta(msgspec.Struct):
    """Of a block (`type` and what it adds) or of the message (how it ended)."""

    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str
    index: int = -1
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: ServiceError | None = None


@dataclass(slots=True)
class _Open:
    """A block that has begun and not ended."""

    type: str
    id: str
    name: str
    whole: str = ""
    """Arguments that came with the block's start, where nothing follows."""
    parts: list[str] = field(default_factory=list)
    chars: int = 0


_EVENT = msgspec.json.Decoder(_Event)
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_DATA = b"data:"


class EventReader:
    """Reads the lines of one answer. `finish` is set by its last event; lines after that are not for it.

    `answers_by_tool`: the input of `ANSWER_TOOL` is the answer's text.
    """

    __slots__ = (
        "_blocks",
        "_by_tool",
        "_called",
        "_has_torn_call",
        "_input",
        "_output",
        "_reason",
        "_secret",
        "finish",
        "model",
    )

    endpoint = "/v1/messages"

    def __init__(self, model: str, *, answers_by_tool: bool = False, secret: str = "") -> None:
        self.model = model
        self.finish: Finish | None = None
        self._by_tool = answers_by_tool
        self._secret = secret
        self._blocks: dict[int, _Open] = {}
        self._called = False
        self._has_torn_call = False
        self._reason: str | None = None
        self._input: dict[str, int] = {}
        self._output = 0

    def read(self, line: bytes) -> Delta | None:
        """What the line adds, if anything. Raises the classified error of an `error` event, BackendProtocolError for
        anything else that is not an event.
        """
        if not line.startswith(_DATA):
            # The name of the event is in its data too; comments and empty lines say nothing.
            return None
        try:
            event = _EVENT.decode(line[len(_DATA) :])
        except (ValueError, RecursionError) as exc:
            raise not_understood("an event is not the JSON expected here", exc) from None
        match event.type:
            case "content_block_delta":
                return self._more(event)
            case "content_block_start":
                return self._start(event)
            case "content_block_stop":
                return self._stop(event)
            case "message_start":
                self._count(event.message.usage if event.message is not None else None)
            case "message_delta":
                self._note_end(event)
            case "message_stop":
                self.finish = Finish(reason=self._finish_reason(), usage=self._usage())
            case "error":
                error = event.error or ServiceError()
                raise classify_event(error, endpoint=self.endpoint, model=self.model, secret=self._secret)
        # Also for kinds of events that did not exist when this was written, as the API asks of its clients.
        return None

    def _start(self, event: _Event) -> Delta | None:
        block = event.content_block
        if block is None:
            raise not_understood("a block begins without saying what it is")
        self._blocks[event.index] = opened = _Open(block.type, block.id, block.name)
        if block.input:
            opened.whole = msgspec.json.encode(block.input).decode()
        said = Delta(block.text, block.thinking, signature=block.signature)
        return said if said.content or said.thinking or said.signature else None

    def _more(self, event: _Event) -> Delta | None:
        delta, block = event.delta, self._blocks.get(event.index)
        if delta is None or block is None:
            raise not_understood("a piece belongs to no block")
        match delta.type:
            case "text_delta":
                return Delta(delta.text) if delta.text else None
            case "thinking_delta":
                return Delta("", delta.thinking) if delta.thinking else None
            case "signature_delta":
                return Delta(signature=delta.signature) if delta.signature else None
            case "input_json_delta":
                block.chars += len(delta.partial_json)
                if block.chars > MAX_INPUT_CHARS:
                    raise not_understood(f"a tool call is longer than {MAX_INPUT_CHARS} characters, which is the limit")
                block.parts.append(delta.partial_json)
                is_text = self._is_answer(block) and delta.partial_json
                return Delta(delta.partial_json) if is_text else None
        return None

    def _stop(self, event: _Event) -> Delta | None:
        block = self._blocks.pop(event.index, None)
        if block is None:
            raise not_understood("a block ends that had not begun")
        if block.type != "tool_use":
            return None
        sent = "".join(block.parts)
        arguments = sent or block.whole or "{}"
        try:
            _OBJECT.decode(arguments)
        except (ValueError, RecursionError):
            # Perhaps cut off by the limit on tokens: the end, which is still to come, tells.
            self._has_torn_call = True
            return None
        if self._is_answer(block):
            return None if sent else Delta(arguments)
        if not (block.id and block.name):
            raise not_understood("a tool call has no id or no name")
        self._called = True
        return Delta(tool_calls=[ToolCall(id=block.id, name=block.name, arguments=arguments)])

    def _is_answer(self, block: _Open) -> bool:
        return self._by_tool and block.type == "tool_use" and block.name == ANSWER_TOOL

    def _note_end(self, event: _Event) -> None:
        self._count(event.usage)
        if event.delta is not None and event.delta.stop_reason is not None:
            self._reason = event.delta.stop_reason

    def _finish_reason(self) -> FinishReason:
        if self._reason is None:
            raise not_understood("it ends without a reason")
        reason = REASONS.get(self._reason, "stop")
        if self._has_torn_call and reason != "length":
            raise not_understood("the arguments of a tool call are not an object")
        # The call that stands for an answer is none to the caller.
        return "stop" if reason == "tool_calls" and not self._called else reason

    def _count(self, usage: _Usage | None) -> None:
        """Counts are totals so far; one that is left out stands as it was."""
        if usage is None:
            return
        read = {
            "plain": usage.input_tokens,
            "written": usage.cache_creation_input_tokens,
            "read": usage.cache_read_input_tokens,
        }
        self._input.update((kind, count) for kind, count in read.items() if count is not None)
        if usage.output_tokens is not None:
            self._output = usage.output_tokens

    def _usage(self) -> Usage:
        return Usage(prompt_tokens=sum(self._input.values()), completion_tokens=self._output)
