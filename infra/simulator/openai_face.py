"""How answers look on /v1/chat/completions and /v1/completions."""

from __future__ import annotations

import random
import time
from typing import Any

import msgspec

from infra.simulator.answering import Timing
from infra.simulator.generation import Plan
from infra.simulator.requests import TextRequest

IDS = 999
"""Ollama's completion ids are not unique either."""


def sse(value: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def _usage(plan: Plan) -> dict[str, int]:
    total = plan.prompt_tokens + plan.eval_count
    return {"prompt_tokens": plan.prompt_tokens, "completion_tokens": plan.eval_count, "total_tokens": total}


class OpenAIFace:
    """Server-sent events of either route."""

    content_type = "text/event-stream"

    def __init__(self, request: TextRequest, *, include_usage: bool) -> None:
        self._request = request
        self._include_usage = include_usage
        self._chat = request.is_chat
        prefix = "chatcmpl-" if self._chat else "cmpl-"
        self._envelope = {
            "id": f"{prefix}{random.randrange(IDS)}",
            "object": "chat.completion.chunk" if self._chat else "text_completion",
            "created": int(time.time()),
            "model": request.asked_model,
            "system_fingerprint": "fp_ollama",
        }

    def _event(
        self, delta: dict[str, Any], finish: str | None = None, logprobs: list[dict[str, Any]] | None = None
    ) -> bytes:
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
        if self._chat:
            choice["delta"] = delta
        else:
            choice["text"] = delta.get("content", "")
        if logprobs:
            choice["logprobs"] = {"content": logprobs}
        event: dict[str, Any] = {**self._envelope, "choices": [choice]}
        if self._include_usage and not self._chat:
            event["usage"] = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        return sse(event)

    def opening(self, plan: Plan) -> bytes:
        return self._event({"role": "assistant", "content": ""}) if self._chat else b""

    def pieces(self, plan: Plan, start: int, stop: int) -> bytes:
        return b"".join(
            self._event(
                {"reasoning" if at < plan.thinking else "content": plan.tokens[at]},
                logprobs=plan.logprobs[at : at + 1],
            )
            for at in range(start, min(stop, len(plan.tokens)))
        )

    def _calls(self, plan: Plan) -> list[dict[str, Any]]:
        return [
            {
                "id": call.id,
                "index": call.index,
                "type": "function",
                "function": {"name": call.name, "arguments": msgspec.json.encode(call.arguments).decode()},
            }
            for call in plan.tool_calls
        ]

    def tool_calls(self, plan: Plan) -> bytes:
        return self._event({"tool_calls": self._calls(plan)})

    def _finish_reason(self, plan: Plan) -> str:
        return "tool_calls" if plan.tool_calls and self._chat else plan.done_reason

    def final(self, plan: Plan, timing: Timing) -> bytes:
        calls = self.tool_calls(plan) if plan.tool_calls and plan.calls_in_final_chunk else b""
        end = self._event({}, self._finish_reason(plan))
        usage = sse({**self._envelope, "choices": [], "usage": _usage(plan)}) if self._include_usage else b""
        return calls + end + usage + b"data: [DONE]\n\n"

    def error_line(self, text: str) -> bytes:
        # Ollama loses errors here: it decodes the error as a chunk, and what arrives is an empty delta of no model.
        empty = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        return sse({**self._envelope, "model": "", "choices": [empty]})

    def whole(self, plan: Plan, timing: Timing, *, finished: bool) -> bytes:
        choice: dict[str, Any] = {"index": 0, "finish_reason": self._finish_reason(plan) if finished else None}
        if self._chat:
            message: dict[str, Any] = {"role": "assistant", "content": plan.content_text}
            if plan.thinking:
                message["reasoning"] = plan.thinking_text
            if plan.tool_calls:
                message["tool_calls"] = self._calls(plan)
            choice["message"] = message
        else:
            choice["text"] = plan.content_text
        if plan.logprobs:
            choice["logprobs"] = {"content": plan.logprobs}
        kind = "chat.completion" if self._chat else "text_completion"
        return msgspec.json.encode({**self._envelope, "object": kind, "choices": [choice], "usage": _usage(plan)})
