"""/api/generate and /api/chat."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from infra.simulator.answering import Answering, Timing
from infra.simulator.catalogue import Catalogue
from infra.simulator.durations import utc_now
from infra.simulator.exchange import JSON_TYPE, Exchange
from infra.simulator.failures import ApiError
from infra.simulator.generation import Plan, context_ids
from infra.simulator.native_requests import (
    field,
    find_model,
    load_or_unload,
    model_named,
    parse_chat,
    parse_generate,
    parse_load,
)
from infra.simulator.requests import TextRequest
from infra.simulator.scheduler import Scheduler
from infra.simulator.settings import SimulatorSettings

_encode = msgspec.json.encode


class NativeFace:
    """NDJSON of either route; they differ in where text sits."""

    content_type = "application/x-ndjson"

    def __init__(self, request: TextRequest) -> None:
        self._request = request
        self._head = b'{"model":' + _encode(request.asked_model) + b',"created_at":"'

    def _text(self, content: str, thinking: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
        if not self._request.is_chat:
            optional = {"thinking": thinking, "tool_calls": calls}
            return {"response": content, **{key: value for key, value in optional.items() if value}}
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if thinking:
            message["thinking"] = thinking
        if calls:
            message["tool_calls"] = calls
        return {"message": message}

    def _line(self, parts: dict[str, Any]) -> bytes:
        return _encode({"model": self._request.asked_model, "created_at": utc_now(), **parts}) + b"\n"

    def opening(self, plan: Plan) -> bytes:
        return b""

    def pieces(self, plan: Plan, start: int, stop: int) -> bytes:
        # By hand, since this runs once per token; `_line` would give the same bytes.
        head = self._head + utc_now().encode()
        chat = self._request.is_chat
        plain = b'","message":{"role":"assistant","content":' if chat else b'","response":'
        thought = plain + b'"","thinking":'
        close = b"}" if chat else b""
        lines = []
        for at in range(start, min(stop, len(plan.tokens))):
            text = (thought if at < plan.thinking else plain) + _encode(plan.tokens[at]) + close
            probs = b',"logprobs":[' + _encode(plan.logprobs[at]) + b"]" if plan.logprobs else b""
            lines.append(head + text + b',"done":false' + probs + b"}\n")
        return b"".join(lines)

    def tool_calls(self, plan: Plan) -> bytes:
        return self._line({**self._text("", "", [call.native() for call in plan.tool_calls]), "done": False})

    def final(self, plan: Plan, timing: Timing) -> bytes:
        calls = [call.native() for call in plan.tool_calls] if plan.calls_in_final_chunk else []
        return self._line({**self._text("", "", calls), "done": True, **self._metrics(plan, timing)})

    def whole(self, plan: Plan, timing: Timing, *, finished: bool) -> bytes:
        calls = [call.native() for call in plan.tool_calls]
        parts = {**self._text(plan.content_text, plan.thinking_text, calls), "done": finished}
        if finished:
            parts.update(self._metrics(plan, timing))
        if plan.logprobs:
            parts["logprobs"] = plan.logprobs
        return self._line(parts).rstrip(b"\n")

    def error_line(self, text: str) -> bytes:
        return _encode({"error": text}) + b"\n"

    def _metrics(self, plan: Plan, timing: Timing) -> dict[str, Any]:
        metrics: dict[str, Any] = {
            "done_reason": plan.done_reason,
            "total_duration": timing.total,
            "load_duration": timing.load,
            "prompt_eval_count": plan.prompt_tokens,
            "prompt_eval_duration": timing.prompt,
            "eval_count": plan.eval_count,
            "eval_duration": timing.eval,
        }
        if not self._request.is_chat:
            metrics["context"] = context_ids(self._request, plan)
        return {key: value for key, value in metrics.items() if value}


class NativeText:
    """The two routes that generate text."""

    def __init__(
        self, settings: SimulatorSettings, catalogue: Catalogue, scheduler: Scheduler, answering: Answering
    ) -> None:
        self._ctx = settings.context_length
        self._catalogue = catalogue
        self._scheduler = scheduler
        self._answering = answering

    async def generate(self, x: Exchange) -> web.StreamResponse:
        """POST /api/generate"""
        model = find_model(self._catalogue, model_named(x.body))
        if not field(x.body, "prompt", str, "") and not x.body.get("suffix"):
            return await self._load_or_unload(x, "generate", {"response": ""})
        if model.is_embedding:
            raise ApiError(400, f'"{model_named(x.body)}" does not support generate')
        request = parse_generate(x.body, model, default_ctx=self._ctx)
        return await self._answering.answer(x, request, NativeFace(request))

    async def chat(self, x: Exchange) -> web.StreamResponse:
        """POST /api/chat"""
        if not model_named(x.body):
            raise ApiError(400, "model is required")
        model = find_model(self._catalogue, model_named(x.body))
        if not field(x.body, "messages", list, []):
            return await self._load_or_unload(x, "chat", {"message": {"role": "assistant", "content": ""}})
        if model.is_embedding:
            raise ApiError(400, f'"{model_named(x.body)}" does not support chat')
        request = parse_chat(x.body, model, default_ctx=self._ctx)
        return await self._answering.answer(x, request, NativeFace(request))

    async def _load_or_unload(self, x: Exchange, verb: str, empty: dict[str, Any]) -> web.StreamResponse:
        """One object even where a stream was to be expected."""
        name = model_named(x.body)
        model = find_model(self._catalogue, name)
        reason = load_or_unload(x.body)
        if reason == "unload":
            self._scheduler.unload(model)
        elif model.is_embedding:
            raise ApiError(400, f'"{name}" does not support {verb}')
        else:
            request = parse_load(x.body, model, default_ctx=self._ctx)
            async with self._scheduler.lease(model, request.load, request.keep_alive_s, x.request_id):
                pass
        body = {"model": name, "created_at": utc_now(), **empty, "done": True, "done_reason": reason}
        return web.Response(body=_encode(body), content_type=JSON_TYPE, charset="utf-8")
