"""LiteLLM, as a library: with `openai/...` models, or with `ollama_chat/...` ones when told `ollama`."""

from __future__ import annotations

import json
import sys
from typing import Any

import litellm

from tests.compat.clients import checks

CHAT, EMBED, API_BASE, API_KEY = {
    "openai": ("openai", "openai", f"{checks.gateway_url()}/v1", "none"),
    "ollama": ("ollama_chat", "ollama", checks.gateway_url(), None),
}[sys.argv[1]]
PLACE: dict[str, Any] = {"api_base": API_BASE, "api_key": API_KEY, "max_retries": 0}
GET_WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather at a place",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def complete(text: str, model: str = checks.CHAT_MODEL, **more: Any) -> Any:
    messages = more.pop("messages", [{"role": "user", "content": text}])
    return litellm.completion(model=f"{CHAT}/{model}", messages=messages, **PLACE, **more)


def chat() -> str:
    return checks.answers_the_question(complete(checks.QUESTION).choices[0].message.content)


def stream() -> str:
    return checks.streamed([part.choices[0].delta.content or "" for part in complete(checks.QUESTION, stream=True)])


def embed() -> list[int]:
    answer = litellm.embedding(model=f"{EMBED}/{checks.EMBEDDING_MODEL}", input=list(checks.TEXTS), **PLACE)
    return checks.vectors_of_both(item["embedding"] for item in answer.data)


def tools() -> str:
    asked = {"role": "user", "content": checks.WEATHER_QUESTION}
    first = complete("", messages=[asked], tools=[GET_WEATHER]).choices[0].message
    (call,) = first.tool_calls
    checks.asked_for_the_weather(call.function.name, json.loads(call.function.arguments))
    result = {"role": "tool", "tool_call_id": call.id, "name": "get_weather", "content": checks.WEATHER}
    second = complete("", messages=[asked, first.model_dump(), result], tools=[GET_WEATHER])
    return checks.used_the_weather(second.choices[0].message.content)


def error() -> str:
    return checks.refusal(lambda: complete(checks.QUESTION, checks.UNKNOWN_MODEL))


if __name__ == "__main__":
    checks.run({"chat": chat, "stream": stream, "embed": embed, "tools": tools, "error": error})
