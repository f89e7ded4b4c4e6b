"""/api/generate and /api/chat: shapes, texts, options, errors."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest

from infra.simulator.text import count_tokens
from tests.infra.simulator_api import Api

IMAGE = base64.b64encode(b"no real image").decode()
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Report the current weather for a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"enum": ["C", "F"]},
                "days": {"type": "integer", "minimum": 3},
            },
            "required": ["city", "unit", "days"],
        },
    },
}  # fmt: skip


async def test_a_chat_streams_one_token_a_line_and_ends_with_metrics_that_add_up(api: Api) -> None:
    reply = await api.chat("Why is the sky blue?")
    *tokens, final = reply.lines
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert all(line["done"] is False and line["message"]["role"] == "assistant" for line in tokens)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?Z", tokens[0]["created_at"])
    assert final["done"] is True and final["done_reason"] == "stop" and final["message"]["content"] == ""
    assert final["eval_count"] == len(tokens) == count_tokens(reply.text)
    assert (
        final["total_duration"] >= final["load_duration"] + final["prompt_eval_duration"] + final["eval_duration"] > 0
    )
    assert "context" not in final


async def test_the_text_says_that_it_is_simulated_and_echoes_the_prompt(api: Api) -> None:
    reply = await api.chat("Why is the sky blue?")
    assert reply.text.startswith('Simulated answer from llama3.2 to "Why is the sky blue".')
    assert 40 <= reply.lines[-1]["eval_count"] <= 60


async def test_a_generate_stream_carries_response_and_context(api: Api) -> None:
    *tokens, final = (await api.generate("Tell me")).lines
    assert all("message" not in line and isinstance(line["response"], str) for line in tokens)
    assert final["response"] == "" and all(isinstance(number, int) for number in final["context"])


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
async def test_without_stream_the_same_text_comes_in_one_object(api: Api, path: str) -> None:
    body = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}], "prompt": "hi"}
    streamed, whole = await api.post(path, body), await api.post(path, {**body, "stream": False})
    assert whole.headers["content-type"] == "application/json; charset=utf-8"
    assert whole.text == streamed.text and whole.json["done"] is True
    assert whole.json["eval_count"] == streamed.lines[-1]["eval_count"]


async def test_answers_depend_on_model_prompt_seed_and_options_and_nothing_else(api: Api) -> None:
    first = (await api.chat("hi", options={"seed": 1})).text
    assert (await api.chat("hi", options={"seed": 1})).text == first
    others = [
        (await api.chat("hi", options={"seed": 2})).text,
        (await api.chat("hi", options={"seed": 1, "top_k": 3})).text,
        (await api.chat("ho", options={"seed": 1})).text,
        (await api.chat("hi", model="mistral", options={"seed": 1})).text,
    ]
    assert len({first, *others}) == 5


async def test_a_directive_in_the_prompt_sets_the_length(api: Api) -> None:
    final = (await api.chat("go on [tokens=500]")).lines[-1]
    assert (final["eval_count"], final["done_reason"]) == (500, "stop")


async def test_num_predict_cuts_with_reason_length(api: Api) -> None:
    reply = await api.chat("go on", options={"num_predict": 5})
    assert (reply.lines[-1]["eval_count"], reply.lines[-1]["done_reason"]) == (5, "length")
    assert count_tokens(reply.text) == 5


async def test_a_stop_text_ends_the_answer_before_it(api: Api) -> None:
    reply = await api.chat("go on", options={"stop": [" to "]})
    assert reply.text == "Simulated answer from llama3.2"
    assert (reply.lines[-1]["eval_count"], reply.lines[-1]["done_reason"]) == (count_tokens(reply.text), "stop")


async def test_without_shift_the_context_ends_the_answer(api: Api) -> None:
    final = (await api.chat("go on [tokens=50]", shift=False, options={"num_ctx": 30})).lines[-1]
    assert final["done_reason"] == "length" and final["prompt_eval_count"] + final["eval_count"] == 30


@pytest.mark.parametrize(
    ("path", "body", "empty"),
    [
        ("/api/chat", {"messages": []}, {"message": {"role": "assistant", "content": ""}}),
        ("/api/generate", {"prompt": ""}, {"response": ""}),
    ],
)
async def test_a_load_and_an_unload_answer_with_one_object(
    api: Api, path: str, body: dict[str, Any], empty: dict[str, Any]
) -> None:
    load = await api.post(path, {"model": "llama3.2", **body})
    assert load.headers["content-type"].startswith("application/json")
    assert load.json == {"model": "llama3.2", "created_at": load.json["created_at"], **empty, "done": True,
                         "done_reason": "load"}  # fmt: skip
    assert await api.loaded() == ["llama3.2:latest"]
    unload = await api.post(path, {"model": "llama3.2", **body, "keep_alive": 0})
    assert unload.json["done_reason"] == "unload"
    assert await api.loaded() == []


async def test_format_json_gives_an_object(api: Api) -> None:
    assert json.loads((await api.chat("facts", format="json")).text)["simulated"] is True


async def test_a_cut_answer_may_be_broken_json(api: Api) -> None:
    reply = await api.chat("facts", format="json", options={"num_predict": 3})
    assert reply.lines[-1]["done_reason"] == "length"
    with pytest.raises(ValueError):
        json.loads(reply.text)


@pytest.mark.parametrize(("model", "own_chunk"), [("llama3.2", True), ("mistral", False)])
async def test_a_prompt_that_names_a_tool_gets_a_call_in_either_place(api: Api, model: str, own_chunk: bool) -> None:
    reply = await api.chat("Use get_weather for Lima", model=model, tools=[WEATHER])
    with_calls = [line for line in reply.lines if "tool_calls" in line["message"]]
    assert len(with_calls) == 1 and with_calls[0]["done"] is not own_chunk
    call = with_calls[0]["message"]["tool_calls"][0]
    assert re.fullmatch(r"call_[a-z0-9]{8}", call["id"])
    assert call["function"]["name"] == "get_weather" and call["function"]["index"] == 0
    arguments = call["function"]["arguments"]
    assert arguments["city"] == "Lima" and arguments["unit"] in ("C", "F") and arguments["days"] >= 3
    assert reply.lines[-1]["done_reason"] == "stop" and reply.lines[-1]["eval_count"] > 5


async def test_a_word_of_the_description_is_enough_and_an_unrelated_prompt_gets_text(api: Api) -> None:
    asked = await api.chat("How is the weather?", tools=[WEATHER], stream=False)
    assert asked.json["message"]["tool_calls"]
    unrelated = await api.chat("Sing a song", tools=[WEATHER], stream=False)
    assert "tool_calls" not in unrelated.json["message"] and unrelated.json["message"]["content"]


async def test_after_a_tools_result_comes_text(api: Api) -> None:
    messages = [
        {"role": "user", "content": "weather in Lima"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "get_weather", "arguments": {}}}]},
        {"role": "tool", "tool_name": "get_weather", "content": "nineteen degrees"},
    ]
    reply = await api.post(
        "/api/chat", {"model": "llama3.2", "messages": messages, "tools": [WEATHER], "stream": False}
    )
    assert 'A tool said "nineteen degrees"' in reply.json["message"]["content"]


async def test_a_thinking_model_thinks_first_unless_told_not_to(api: Api) -> None:
    *lines, final = (await api.chat("ponder", model="qwen3")).lines
    kinds = ["thinking" if "thinking" in line["message"] else "content" for line in lines]
    assert kinds == sorted(kinds, reverse=True) and set(kinds) == {"thinking", "content"}
    assert final["eval_count"] == len(lines)
    silent = await api.chat("ponder", model="qwen3", think=False)
    assert not any("thinking" in line["message"] for line in silent.lines)


async def test_images_are_counted(api: Api) -> None:
    messages = [{"role": "user", "content": "look", "images": [IMAGE, IMAGE]}]
    reply = await api.post("/api/chat", {"model": "llava", "messages": messages, "stream": False})
    assert "It came with 2 images." in reply.json["message"]["content"]
    assert reply.json["prompt_eval_count"] > 2 * 768


async def test_logprobs_come_with_every_token(api: Api) -> None:
    *tokens, _ = (await api.chat("hi", logprobs=True, top_logprobs=2)).lines
    for line in tokens:
        [entry] = line["logprobs"]
        assert entry["token"] == line["message"]["content"] and entry["logprob"] <= 0
        assert bytes(entry["bytes"]).decode() == entry["token"] and len(entry["top_logprobs"]) == 2
    whole = await api.chat("hi", logprobs=True, stream=False)
    assert len(whole.json["logprobs"]) == whole.json["eval_count"]


async def test_old_turns_are_dropped_when_the_context_is_full_and_refused_when_that_is_forbidden(api: Api) -> None:
    messages = [{"role": "user", "content": "word " * 100} for _ in range(5)]
    body = {"model": "llama3.2", "messages": messages, "options": {"num_ctx": 220}, "stream": False}
    assert 104 <= (await api.post("/api/chat", body)).json["prompt_eval_count"] <= 220
    refused = await api.post("/api/chat", {**body, "truncate": False})
    nested = json.loads(refused.json["error"])["error"]
    assert refused.status == nested["code"] == 400 and nested["type"] == "exceed_context_size_error"
    assert nested["n_prompt_tokens"] > nested["n_ctx"] == 220


CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "x"}]}
GENERATE: dict[str, Any] = {"model": "llama3.2", "prompt": "x"}


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/api/chat", {**CHAT, "model": "nope"}, 404, "model 'nope' not found"),
        ("/api/generate", {**GENERATE, "model": "nope"}, 404, "model 'nope' not found"),
        ("/api/embed", {"model": "nope", "input": "x"}, 404, 'model "nope" not found, try pulling it first'),
        ("/api/chat", {**CHAT, "model": ""}, 400, "model is required"),
        ("/api/embeddings", {"model": "nope", "prompt": "x"}, 404, 'model "nope" not found, try pulling it first'),
        ("/api/chat", {**CHAT, "model": "a b"}, 400, "invalid model name"),
        ("/api/chat", {**CHAT, "model": "big:cloud"}, 403, "ollama cloud is disabled: remote model is unavailable"),
        ("/api/chat", {**CHAT, "model": "nomic-embed-text"}, 400, '"nomic-embed-text" does not support chat'),
        (
            "/api/generate",
            {**GENERATE, "model": "nomic-embed-text"},
            400,
            '"nomic-embed-text" does not support generate',
        ),
        ("/api/chat", {**CHAT, "options": {"num_ctx": "big"}}, 500, 'option "num_ctx" must be of type integer'),
        ("/api/chat", {**CHAT, "options": {"top_p": "x"}}, 500, 'option "top_p" must be of type float32'),
        ("/api/chat", {**CHAT, "options": {"stop": "x"}}, 500, 'option "stop" must be of type array'),
        (
            "/api/chat",
            {**CHAT, "format": "xml"},
            500,
            'invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema object',
        ),
        ("/api/chat", {**CHAT, "keep_alive": "300"}, 400, 'time: missing unit in duration "300"'),
        ("/api/chat", {**CHAT, "keep_alive": True}, 400, "Unsupported type: 'bool'"),
        ("/api/chat", {**CHAT, "think": True}, 400, '"llama3.2" does not support thinking'),
        (
            "/api/chat",
            {**CHAT, "think": "much"},
            400,
            'invalid think value: "much" (must be "high", "medium", "low", "max", true, or false)',
        ),
        ("/api/chat", {**CHAT, "top_logprobs": 21}, 400, "top_logprobs must be between 0 and 20"),
        (
            "/api/chat",
            {**CHAT, "model": "llama2", "tools": [WEATHER]},
            400,
            "registry.ollama.ai/library/llama2:latest does not support tools",
        ),
        (
            "/api/generate",
            {**GENERATE, "suffix": "y"},
            400,
            "registry.ollama.ai/library/llama3.2:latest does not support insert",
        ),
        (
            "/api/generate",
            {**GENERATE, "raw": True, "system": "s"},
            400,
            "raw mode does not support template, system, or context",
        ),
        ("/api/chat", b"", 400, "missing request body"),
        ("/api/show", {}, 400, "model is required"),
    ],
)
async def test_errors_have_ollamas_status_and_words(api: Api, path: str, body: object, status: int, text: str) -> None:
    reply = await api.post(path, body)
    assert (reply.status, reply.json) == (status, {"error": text})


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"model": 3}', b'{"model": "llama3.2", "messages": [{"content": []}]}']
)
async def test_bodies_that_do_not_fit_are_a_400(api: Api, body: bytes) -> None:
    reply = await api.post("/api/chat", body)
    assert reply.status == 400 and list(reply.json) == ["error"]


async def test_an_image_for_a_text_model_fails_with_the_runners_json_inside_the_error(api: Api) -> None:
    messages = [{"role": "user", "content": "look", "images": [IMAGE]}]
    reply = await api.post("/api/chat", {"model": "llama3.2", "messages": messages})
    assert reply.status == 500
    assert "image input is not supported" in json.loads(reply.json["error"])["error"]["message"]


async def test_unknown_paths_and_verbs_answer_in_plain_text(api: Api) -> None:
    missing, wrong = await api.get("/api/nope"), await api.call("PUT", "/api/chat")
    assert (missing.status, missing.body) == (404, b"404 page not found")
    assert (wrong.status, wrong.body) == (405, b"405 method not allowed")
    assert missing.headers["content-type"].startswith("text/plain")


async def test_names_ignore_case_and_default_to_latest(api: Api) -> None:
    for name in ("LLAMA3.2", "llama3.2:latest", "library/llama3.2", "registry.ollama.ai/library/Llama3.2:LATEST"):
        reply = await api.chat(model=name, stream=False)
        assert reply.status == 200 and reply.json["model"] == name


async def test_answers_need_no_headers_that_ollama_does_not_send(api: Api) -> None:
    reply = await api.chat()
    assert not {"retry-after", "x-request-id", "www-authenticate"} & set(reply.headers)
