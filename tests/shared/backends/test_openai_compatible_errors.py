"""The table of failures, row by row: bodies as servers of the dialect send them, and what they mean."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.errors import (
    ArrieroError,
    BackendBusy,
    BackendFault,
    BackendMisconfigured,
    BackendRejected,
    BackendTimeout,
    ModelFault,
    ModelLoading,
    ModelNotFound,
)
from shared.wire.openai_upstream_errors import classify, classify_event, retry_after_s

CHAT = "/chat/completions"
KEY = "sk-proj-abcdef0123456789"


def openai(message: str, code: str | int | None = None, kind: str = "invalid_request_error") -> str:
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})


def plain(message: str) -> str:
    return json.dumps({"error": message})


# status, body -> class, retry, breaker
ROWS: list[tuple[str, int, str, type[ArrieroError], bool, bool]] = [
    ("OpenAI, key", 401, openai("Incorrect API key provided", "invalid_api_key"), BackendMisconfigured, False, False),
    (
        "OpenAI, country",
        403,
        openai("Country not supported", "unsupported_country"),
        BackendMisconfigured,
        False,
        False,
    ),
    ("OpenAI, model", 404, openai("The model `x` does not exist", "model_not_found"), ModelNotFound, False, False),
    ("OpenAI, rate", 429, openai("Rate limit reached", "rate_limit_exceeded", "tokens"), BackendBusy, True, False),
    ("OpenAI, quota", 429, openai("You exceeded your quota", "insufficient_quota"), BackendMisconfigured, False, False),
    ("OpenAI, length", 400, openai("maximum context", "context_length_exceeded"), BackendRejected, False, False),
    ("OpenAI, filter", 400, openai("x", "content_policy_violation"), BackendRejected, False, False),
    ("OpenAI, parameter", 400, openai("Unknown parameter: 'x'", "unknown_parameter"), BackendRejected, False, False),
    ("OpenAI, down", 500, openai("The server had an error", None, "server_error"), BackendFault, True, True),
    ("OpenAI, overload", 503, openai("Overloaded", None, "overloaded_error"), BackendBusy, True, False),
    ("OpenRouter, credit", 402, openai("Insufficient credits", 402), BackendMisconfigured, False, False),
    ("OpenRouter, model", 400, openai("x/y is not a valid model ID", 400), ModelNotFound, False, False),
    ("OpenRouter, no host", 404, openai("No endpoints found for x/y.", 404), ModelNotFound, False, False),
    ("OpenRouter, tools", 404, openai("No endpoints found that support tool use", 404), BackendRejected, False, False),
    ("OpenRouter, flagged", 403, openai("Your input was flagged", 403), BackendRejected, False, False),
    ("OpenRouter, provider", 502, openai("Provider returned error", 502), BackendFault, True, True),
    ("OpenRouter, slow", 408, openai("Request timed out", 408), BackendTimeout, True, True),
    ("vLLM, model", 404, openai("The model `x` does not exist.", 404, "NotFoundError"), ModelNotFound, False, False),
    (
        "vLLM, length",
        400,
        json.dumps({"object": "error", "message": "This model's maximum context length is 512 tokens", "code": 400}),
        BackendRejected,
        False,
        False,
    ),
    ("llama.cpp, loading", 503, openai("Loading model", 503, "unavailable_error"), ModelLoading, True, False),
    ("llama.cpp, length", 400, openai("exceeds", 400, "exceed_context_size_error"), BackendRejected, False, False),
    ("llama.cpp, no vectors", 501, openai("no", 501, "not_supported_error"), BackendRejected, False, False),
    ("llama.cpp, key", 401, openai("Invalid API Key", 401, "authentication_error"), BackendMisconfigured, False, False),
    ("LM Studio, format", 400, plain("'response_format.type' must be 'json_schema'"), BackendRejected, False, False),
    ("LM Studio, none loaded", 404, plain("No models loaded. Load one."), ModelNotFound, False, False),
    ("LM Studio, load failed", 500, plain("Failed to load model: oops"), ModelFault, True, True),
    ("LocalAI, load failed", 500, openai("could not load model: rpc error", 500, ""), ModelFault, True, True),
    ("no memory", 500, openai("CUDA out of memory", 500, ""), ModelFault, True, True),
    (
        "another framework",
        422,
        json.dumps({"detail": [{"loc": ["body"], "msg": "bad"}]}),
        BackendRejected,
        False,
        False,
    ),
    ("llama-cpp-python, body", 500, openai("1 validation error: role", kind="internal"), BackendRejected, False, False),
    ("another framework, path", 404, json.dumps({"detail": "Not Found"}), BackendMisconfigured, False, False),
    ("llama.cpp, path", 404, openai("File Not Found", 404, "not_found_error"), BackendMisconfigured, False, False),
    ("OpenAI, path", 404, openai("Invalid URL (POST /v1/v1/chat/completions)"), BackendMisconfigured, False, False),
    ("a proxy, path", 404, "<h1>404</h1>", BackendMisconfigured, False, False),
    ("a proxy, away", 502, "<h1>Bad Gateway</h1>", BackendFault, True, True),
    ("a proxy, away 503", 503, "", BackendFault, True, True),
    ("a redirect", 302, "", BackendMisconfigured, False, False),
    ("method", 405, "", BackendMisconfigured, False, False),
    ("too large", 413, "", BackendRejected, False, False),
    ("rate, no body", 429, "", BackendBusy, True, False),
]


@pytest.mark.req("S4-73")
@pytest.mark.parametrize(
    ("status", "body", "kind", "retryable", "trips"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_a_failure_and_what_it_means(
    status: int, body: str, kind: type[ArrieroError], retryable: bool, trips: bool
) -> None:
    error = classify(status, body, endpoint=CHAT, model="x")
    assert (type(error), error.retryable, error.trips_breaker) == (kind, retryable, trips)
    assert error.message.rstrip()
    assert error.__notes__ == [f"The model server answered {status} to {CHAT}: {_text(body)}"]


def _text(body: str) -> str:
    try:
        found = json.loads(body)
    except ValueError:
        return body
    error = found.get("error", found.get("detail", found))
    text = error.get("message") if isinstance(error, dict) else error
    if isinstance(text, str) and text.startswith("{"):
        return _text(text)
    return text if isinstance(text, str) else body


def test_a_limit_tells_when_to_come_back() -> None:
    def busy(**headers: str) -> ArrieroError:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return classify(429, openai("slow down"), endpoint=CHAT, model="m", headers=names)

    assert busy(**{"Retry_After": "20"}).retry_after_s == 20
    assert busy(**{"retry_after_ms": "2500", "Retry_After": "99"}).retry_after_s == 2.5
    assert busy().retry_after_s == 1
    unavailable = classify(503, "", endpoint=CHAT, headers={"Retry-After": "7"})
    assert (type(unavailable), unavailable.retry_after_s) == (BackendBusy, 7)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("1.5", 1.5), ("99999", 3600), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-1", None), ("nan", None), ("", None)],
)
def test_the_time_to_come_back_is_a_number_within_reason(value: str, seconds: float | None) -> None:
    assert retry_after_s({"Retry-After": value}) == seconds


def test_the_callers_mistake_is_quoted_and_an_operators_is_not() -> None:
    rejected = classify(400, openai("Unknown parameter: 'top_q'. See http://10.0.0.1/x"), endpoint=CHAT, model="m")
    assert rejected.message == ("The service refused the request as invalid: Unknown parameter: 'top_q'. See <hidden>")
    refused = classify(401, openai("Incorrect API key for org-7"), endpoint=CHAT, model="m")
    assert "org-7" not in refused.message


@pytest.mark.req("S4-71")
@pytest.mark.parametrize("said", [KEY, "sk-proj-ab**********6789", "sk-or-v1-0123456789", "Bearer abcdefgh"])
@pytest.mark.parametrize("status", [400, 401, 500])
def test_keys_are_hidden_from_callers_and_operators(said: str, status: int) -> None:
    error = classify(status, openai(f"bad key {said}"), endpoint=CHAT, model="m", secret="another")
    assert said.removeprefix("Bearer ") not in f"{error.message} {error.__notes__}"
    assert said.removeprefix("Bearer ") not in repr(classify(status, f"<p>{said}</p>", endpoint=CHAT).__notes__)


def test_the_services_own_key_is_hidden_whatever_it_looks_like() -> None:
    body: Any = {"message": "no such user: hunter2", "type": "invalid_request_error"}
    error = classify_event(body, endpoint=CHAT, model="m", secret="hunter2")
    assert "hunter2" not in f"{error.message} {error.__notes__}"


@pytest.mark.parametrize("quote", [json.dumps, repr])
def test_what_a_server_repeats_of_the_request_is_left_out(quote: Any) -> None:
    said = quote([{"loc": ["body", "messages"], "msg": "bad role", "input": {"content": "canary"}}])
    for body in (openai(said), json.dumps({"detail": said}), said):
        error = classify(400, body, endpoint=CHAT, model="m")
        assert "canary" not in f"{error.message} {error.__notes__}"
        assert "bad role" in error.__notes__[0]
