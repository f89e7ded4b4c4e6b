"""The table of failures, row by row: class, retry and breaker, and what the caller is told."""

from __future__ import annotations

import msgspec
import pytest

from shared.backends.ollama_errors import classify, classify_line, incomplete, is_cloud_model
from shared.errors import (
    BY_CODE,
    AnswerIncomplete,
    ArrieroError,
    BackendBusy,
    BackendError,
    BackendFault,
    BackendMisconfigured,
    BackendRejected,
    ModelFault,
    ModelLoading,
    ModelNotFound,
)

CHAT, EMBED, PULL = "/api/chat", "/api/embed", "/api/pull"


def native(text: str) -> str:
    return msgspec.json.encode({"error": text}).decode()


def nested(code: int, message: str, kind: str) -> str:
    return native(msgspec.json.encode({"error": {"code": code, "message": message, "type": kind}}).decode())


BUSY = native("server busy, please try again.  maximum pending requests exceeded")
TERMINATED = "llama-server process has terminated: exit status 1: "
OLD_TERMINATED = "llama runner process has terminated: signal: killed"

# endpoint, status, body -> class, retry, breaker
ROWS: list[tuple[str, int, str, type[ArrieroError], bool, bool]] = [
    # saturation, not sickness
    (CHAT, 503, BUSY, BackendBusy, True, False),
    (CHAT, 429, native("too many requests"), BackendBusy, True, False),
    # a dead or loading runner
    (CHAT, 503, nested(503, "Loading model", "unavailable_error"), ModelLoading, True, False),
    (CHAT, 500, nested(503, "Loading model", "unavailable_error"), ModelLoading, True, False),
    (CHAT, 500, native(TERMINATED + "segfault"), ModelFault, True, True),
    (CHAT, 500, native(OLD_TERMINATED), ModelFault, True, True),
    (CHAT, 500, native("model runner has unexpectedly stopped, this may be due to ..."), ModelFault, True, True),
    (CHAT, 500, native("llama-server process no longer running: 1 x"), ModelFault, True, True),
    (CHAT, 500, native("an error was encountered while running the model: x"), ModelFault, True, True),
    (CHAT, 500, native('Post "http://127.0.0.1:41233/completion": EOF'), ModelFault, True, True),
    (CHAT, 500, native("llama-server reported out-of-memory during startup: x"), ModelFault, True, True),
    (CHAT, 500, native(TERMINATED + "cudaMalloc failed: out of memory"), ModelFault, True, True),
    (
        CHAT,
        500,
        native("model requires more system memory (12.3 GiB) than is available (7.9 GiB)"),
        ModelFault,
        True,
        True,
    ),
    (CHAT, 500, native("timed out waiting for llama-server to start - loading"), ModelFault, True, True),
    (CHAT, 500, native("timed out waiting for llama runner to start - progress 0.43 - "), ModelFault, True, True),
    # the caller's mistake, called a 500
    (CHAT, 500, native('option "num_ctx" must be of type integer'), BackendRejected, False, False),
    (CHAT, 500, native('invalid format: "\\"xml\\""; expected "json" or a valid ...'), BackendRejected, False, False),
    (CHAT, 500, native("template: :1:2: executing x: nil pointer"), BackendRejected, False, False),
    (CHAT, 500, nested(500, "image input is not supported - hint: x", "server_error"), BackendRejected, False, False),
    (
        CHAT,
        500,
        native("Multimodal data provided, but model does not support multimodal requests."),
        BackendRejected,
        False,
        False,
    ),
    (
        CHAT,
        500,
        native(TERMINATED + "bad magic: this model may be incompatible with ..."),
        BackendRejected,
        False,
        False,
    ),
    (CHAT, 500, native('option "stop" must be of an array of strings'), BackendRejected, False, False),
    (CHAT, 500, native("invalid JSON schema in format"), BackendRejected, False, False),
    (CHAT, 500, native("this model only supports one image while ..."), BackendRejected, False, False),
    (CHAT, 500, native("llama-server template error: x"), BackendRejected, False, False),
    # the same broken runner in other words
    (CHAT, 500, native("memory layout cannot be allocated"), ModelFault, True, True),
    (CHAT, 500, native("error reading llm response: read tcp 127.0.0.1:4: reset by peer"), ModelFault, True, True),
    (CHAT, 500, native("unexpected server status: llm server error"), ModelFault, True, True),
    (
        CHAT,
        500,
        native("error starting llama-server: llama-server binary not found (checked: /x)"),
        ModelFault,
        True,
        True,
    ),
    # any other 5xx
    (CHAT, 500, native("something new"), BackendFault, True, True),
    (CHAT, 500, "", BackendFault, True, True),
    (CHAT, 500, "<html>oops</html>", BackendFault, True, True),
    (CHAT, 502, native("upstream unreachable"), BackendFault, True, True),
    (CHAT, 503, "<html>503 Service Unavailable</html>", BackendFault, True, True),
    (CHAT, 500, nested(500, "compute failed", "server_error"), BackendFault, True, True),
    (CHAT, 500, '{"error": 5}', BackendFault, True, True),
    (CHAT, 500, "[" * 100_000, BackendFault, True, True),
    # validation
    (CHAT, 400, native("registry.ollama.ai/library/phi:latest does not support tools"), BackendRejected, False, False),
    (
        CHAT,
        400,
        nested(400, "request (9 tokens) exceeds ...", "exceed_context_size_error"),
        BackendRejected,
        False,
        False,
    ),
    (CHAT, 500, nested(400, "JSON schema error at #", "invalid_request_error"), BackendRejected, False, False),
    (CHAT, 400, native("do embedding request: EOF"), BackendRejected, False, False),
    (CHAT, 413, "too large", BackendRejected, False, False),
    (EMBED, 400, native("the input length exceeds the context length"), BackendRejected, False, False),
    (EMBED, 400, native("embedding contains NaN or Inf values"), BackendRejected, False, False),
    (EMBED, 400, native("invalid input type"), BackendRejected, False, False),
    # a broken runner, called a 400
    (EMBED, 400, native('do embedding request: Post "http://127.0.0.1:4/embedding": EOF'), ModelFault, True, True),
    (EMBED, 400, native("dial tcp 127.0.0.1:4: connect: connection refused"), ModelFault, True, True),
    (EMBED, 400, native("unexpected EOF"), ModelFault, True, True),
    (EMBED, 400, native("llama-server process no longer running: -1"), ModelFault, True, True),
    # missing models in three spellings, and missing paths
    (CHAT, 404, native("model 'x' not found"), ModelNotFound, False, False),
    (EMBED, 404, native('model "x" not found, try pulling it first'), ModelNotFound, False, False),
    (CHAT, 404, native("anything"), ModelNotFound, False, False),
    (CHAT, 404, "404 page not found", BackendMisconfigured, False, False),
    (CHAT, 405, "405 method not allowed", BackendMisconfigured, False, False),
    # access, redirects, capabilities, our own cancellation
    (CHAT, 401, native("unauthorized"), BackendMisconfigured, False, False),
    (CHAT, 403, "", BackendMisconfigured, False, False),
    (CHAT, 307, "", BackendMisconfigured, False, False),
    (CHAT, 499, native("request canceled"), BackendRejected, False, False),
    (EMBED, 501, native("This server does not support embeddings."), BackendRejected, False, False),
    (EMBED, 501, nested(501, "no embeddings", "not_supported_error"), BackendRejected, False, False),
    # pulling
    (PULL, 400, native("invalid model name"), BackendRejected, False, False),
    (PULL, 500, native("pull model manifest: file does not exist"), ModelNotFound, False, False),
    (PULL, 500, native("dial tcp: lookup registry.ollama.ai: no such host"), BackendError, True, False),
    (PULL, 500, native("max retries exceeded: unexpected EOF"), BackendError, True, False),
    (
        PULL,
        500,
        native("pull model manifest: 412: ... requires a newer version of Ollama"),
        BackendRejected,
        False,
        False,
    ),
]


@pytest.mark.parametrize(("endpoint", "status", "body", "kind", "retry", "breaker"), ROWS)
def test_each_failure_is_what_it_is(
    endpoint: str, status: int, body: str, kind: type[ArrieroError], retry: bool, breaker: bool
) -> None:
    error = classify(status, body, endpoint=endpoint, model="x")
    assert type(error) is kind
    assert (error.retryable, error.trips_breaker) == (retry, breaker)


@pytest.mark.parametrize(("endpoint", "status", "body", "kind", "retry", "breaker"), [r for r in ROWS if r[1] == 500])
def test_a_line_in_the_stream_means_what_the_status_500_means(
    endpoint: str, status: int, body: str, kind: type[ArrieroError], retry: bool, breaker: bool
) -> None:
    try:
        text = msgspec.json.decode(body)["error"]
    except (ValueError, RecursionError):
        text = body
    if isinstance(text, str):
        assert type(classify_line(text, endpoint=endpoint, model="x")) is kind


@pytest.mark.parametrize(("endpoint", "status", "body", "kind", "retry", "breaker"), ROWS)
def test_no_message_tells_where_the_server_is(
    endpoint: str, status: int, body: str, kind: type[ArrieroError], retry: bool, breaker: bool
) -> None:
    message = classify(status, body, endpoint=endpoint, model="x").message
    for secret in ("127.0.0.1", "http:", "registry.ollama.ai", "<html", "/api/"):
        assert secret not in message
    assert len(message) < 800


@pytest.mark.parametrize(
    "secret",
    [
        "http://10.0.0.7:11434/api/chat",
        "https://gpu-box.internal/x",
        "10.0.0.7:11434",
        "[fe80::1]:11434",
        "/usr/share/ollama/.ollama/models/blobs/sha256-abc",
        "C:\\Users\\me\\.ollama",
        "gpu-box.internal:11434",
    ],
)
def test_addresses_and_paths_are_taken_out_of_a_refusal(secret: str) -> None:
    message = classify(400, native(f"cannot use {secret}: bad\nrequest"), endpoint=CHAT, model="x").message
    assert secret not in message
    assert "cannot use" in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["a/b and/or c", "llama3.2:70b does not support tools", "1/2 of 3.5 tokens"])
def test_what_is_no_address_stays(text: str) -> None:
    assert text in classify(400, native(text), endpoint=CHAT, model="x").message


def test_the_operator_still_finds_the_original_text() -> None:
    error = classify(500, native(TERMINATED + "at /srv/blob"), endpoint=CHAT, model="x")
    assert "/srv/blob" not in error.message
    assert "/srv/blob" in error.__notes__[0]


@pytest.mark.parametrize(
    ("header", "wait_s"), [(None, 1.0), ("0", 1.0), ("7", 7.0), ("soon", 1.0), ("99999999", 3600.0), ("-3", 1.0)]
)
def test_a_busy_server_is_given_at_least_a_second(header: str | None, wait_s: float) -> None:
    assert classify(503, BUSY, endpoint=CHAT, retry_after=header).retry_after_s == wait_s


def test_a_foreign_503_with_a_time_to_come_back_is_busy() -> None:
    assert isinstance(classify(503, "later", endpoint=CHAT, retry_after="5"), BackendBusy)


@pytest.mark.req("S2-28")
def test_a_missing_model_comes_with_the_command_that_installs_it() -> None:
    error = classify(404, native("model 'llama3.2' not found"), endpoint=CHAT, model="llama3.2")
    assert "`ollama pull llama3.2`" in error.message
    assert error.param == "model"


@pytest.mark.parametrize("text", ["out of memory", "timed out waiting for llama-server to start - x"])
def test_what_needs_time_waits_long(text: str) -> None:
    wait_s = classify(500, native(text), endpoint=CHAT, model="x").retry_after_s
    assert wait_s is not None
    assert wait_s >= 10


def test_an_answer_that_stops_in_good_order_leaves_the_breaker_alone() -> None:
    error = incomplete(True)
    assert (error.retryable, error.trips_breaker) == (True, False)
    assert BY_CODE[error.code] is AnswerIncomplete


@pytest.mark.parametrize(
    ("model", "is_cloud"),
    [
        ("gpt-oss:120b-cloud", True),
        ("glm:cloud", True),
        ("GLM:CLOUD", True),
        (" glm:cloud ", True),
        ("user/glm:4-Cloud", True),
        ("gpt-oss:20b:cloud", True),
        ("llama3.2", False),
        ("my-cloud", False),
        ("cloud", False),
        ("cloud:latest", False),
        ("foo:cloud:local", False),
        ("foo:bar-cloud/baz", False),
        ("foo:cloudy", False),
    ],
)
def test_cloud_names_are_told_by_their_tag(model: str, is_cloud: bool) -> None:
    assert is_cloud_model(model) is is_cloud
