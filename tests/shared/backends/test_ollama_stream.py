"""Chat and completion against a real socket: what counts as an answer, and what does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from shared.backends.base import Backend, CallTimeouts
from shared.backends.ollama import OllamaBackend
from shared.errors import (
    AnswerIncomplete,
    ArrieroError,
    BackendBusy,
    BackendFault,
    BackendMisconfigured,
    BackendProtocolError,
    BackendRejected,
    BackendUnreachable,
    ModelFault,
    ModelNotFound,
)
from shared.wire.canonical import (
    ChatRequest,
    CompletionRequest,
    Delta,
    EmbeddingRequest,
    Finish,
    Message,
    Timings,
    Usage,
    unpack_vector,
)
from tests.shared.backends.scripted_server import Reply, Script, ScriptedServer, stream, whole

TIMEOUTS = CallTimeouts(connect_s=2, first_byte_s=5, gap_s=5, total_s=10)
ASK = ChatRequest(model="llama3.2", messages=[Message(role="user", content="hi")])
END = {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop", "eval_count": 2}
ENDED = Finish(reason="stop", usage=Usage(completion_tokens=2))


def token(text: str) -> dict[str, Any]:
    return {"model": "llama3.2", "message": {"role": "assistant", "content": text}, "done": False}


def encoded(*lines: object) -> bytes:
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as running:
        yield running


@pytest.fixture
async def backend(server: ScriptedServer) -> AsyncIterator[OllamaBackend]:
    made = OllamaBackend(server.url, max_line_bytes=1024 * 1024)
    yield made
    await made.aclose()


async def chat(backend: Backend, request: ChatRequest = ASK) -> list[Delta | Finish]:
    return [item async for item in backend.chat(request, request_id="job_7", timeouts=TIMEOUTS)]


@pytest.mark.req("S1-104", "S2-03", "S2-35", "S3-02")
async def test_a_chat_streams_its_deltas_and_one_finish(server: ScriptedServer, backend: OllamaBackend) -> None:
    server.scripts["/api/chat"] = stream(token("Hel"), token(""), token("lo"), END)
    assert await chat(backend) == [Delta("Hel"), Delta("lo"), ENDED]
    (seen,) = server.requests
    assert (seen.method, seen.path) == ("POST", "/api/chat")
    assert seen.json == {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    assert seen.headers["x-request-id"] == "job_7"
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["accept-encoding"] == "identity"


@pytest.mark.req("S3-02")
async def test_a_completion_goes_to_generate(server: ScriptedServer, backend: OllamaBackend) -> None:
    server.scripts["/api/generate"] = stream(
        {"response": "4", "done": False},
        {"response": "2", "done": True, "done_reason": "length", "eval_count": 2, "total_duration": 10**9},
    )
    request = CompletionRequest(model="llama3.2", prompt="6*7=")
    items = [item async for item in backend.complete(request, request_id="job_8", timeouts=TIMEOUTS)]
    finish = Finish(reason="length", usage=Usage(completion_tokens=2), timings=Timings(total_s=1.0))
    assert items == [Delta("4"), Delta("2"), finish]
    assert server.requests[0].json == {"model": "llama3.2", "prompt": "6*7=", "stream": True}


async def test_an_embedding_returns_packed_vectors_and_who_made_them(
    server: ScriptedServer, backend: OllamaBackend
) -> None:
    server.scripts["/api/embed"] = whole(b'{"model":"e","embeddings":[[0.5,1],[2,3]],"prompt_eval_count":4}')
    answer = await backend.embed(EmbeddingRequest(model="e", inputs=["a", "b"]), request_id="job_9", timeouts=TIMEOUTS)
    assert [unpack_vector(vector) for vector in answer.vectors] == [[0.5, 1.0], [2.0, 3.0]]
    assert answer.backend == backend.name == server.url.removeprefix("http://")
    assert server.requests[0].headers["x-request-id"] == "job_9"


WHOLE_ANSWER = encoded(token("a"), token("é\u2028\u0085x"), END)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 10_000])
async def test_lines_may_be_cut_anywhere(server: ScriptedServer, backend: OllamaBackend, size: int) -> None:
    parts = [WHOLE_ANSWER[at : at + size] for at in range(0, len(WHOLE_ANSWER), size)]
    server.scripts["/api/chat"] = stream(*parts)
    # U+2028 and U+0085 are line ends to str.splitlines, not to this protocol.
    assert await chat(backend) == [Delta("a"), Delta("é\u2028\u0085x"), ENDED]


@pytest.mark.parametrize(
    "body",
    [
        encoded(token("x")) + b"\n\r\n" + encoded(END),
        encoded(token("x"), END)[:-1],
        encoded(token("x"), END, END),
        encoded(token("x"), END, token("late"), {"error": "late"}),
        encoded(token("x"), END) + b"\x00 rubbish",
    ],
    ids=["blank lines", "no last newline", "done twice", "lines after done", "rubbish after done"],
)
async def test_the_first_done_ends_the_answer(server: ScriptedServer, backend: OllamaBackend, body: bytes) -> None:
    server.scripts["/api/chat"] = stream(body)
    assert await chat(backend) == [Delta("x"), ENDED]


async def test_a_cut_after_done_changes_nothing(server: ScriptedServer, backend: OllamaBackend) -> None:
    server.scripts["/api/chat"] = stream(token("x"), END, end="cut")
    assert await chat(backend) == [Delta("x"), ENDED]


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (stream(token("x")), AnswerIncomplete),
        (stream(), AnswerIncomplete),
        (whole(b""), AnswerIncomplete),
        (stream(token("x"), end="cut"), BackendProtocolError),
        (stream(token("x"), b'{"message":{"cont', end="cut"), BackendProtocolError),
        (stream(token("x"), b'{"message":{"cont'), BackendProtocolError),
        (stream(token("x"), b"\x00\x00\x00\n"), BackendProtocolError),
        (stream(token("x"), b'{"message":{"content":"\xff"}}\n'), BackendProtocolError),
        (whole(b"<html>welcome</html>", content_type="text/html"), BackendProtocolError),
        (stream(b"a" * (1024 * 1024 + 1) + b"\n", END), BackendProtocolError),
        (stream(token("x"), b" " * 700_000, b" " * 700_000), BackendProtocolError),
        (stream(token("x"), {"error": "an error was encountered while running the model: EOF"}), ModelFault),
        (stream({"error": "server busy, please try again."}), BackendFault),
    ],
    ids=[
        "clean end",
        "empty stream",
        "empty body",
        "cut",
        "cut in a line",
        "clean end in a line",
        "nul",
        "no utf-8",
        "html",
        "long line",
        "endless line",
        "runner died",
        "other error line",
    ],
)
async def test_without_done_there_is_no_answer(
    server: ScriptedServer, backend: OllamaBackend, script: Script, kind: type[ArrieroError]
) -> None:
    server.scripts["/api/chat"] = script
    items: list[Delta | Finish] = []
    with pytest.raises(kind) as caught:
        async for item in backend.chat(ASK, request_id="j", timeouts=TIMEOUTS):
            items.append(item)  # noqa: PERF401 - what came before the failure is looked at
    assert type(caught.value) is kind
    assert not any(isinstance(item, Finish) for item in items)


async def test_a_line_just_under_the_limit_passes(server: ScriptedServer, backend: OllamaBackend) -> None:
    text = "y" * (1024 * 1024 - 100)
    server.scripts["/api/chat"] = stream(token(text), END)
    assert await chat(backend) == [Delta(text), ENDED]


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (whole(b'{"error":"model \'llama3.2\' not found"}', 404), ModelNotFound),
        (whole(b"404 page not found", 404, content_type="text/plain"), BackendMisconfigured),
        (whole(b'{"error":"server busy, please try again."}', 503), BackendBusy),
        (whole(b"", 500), BackendFault),
        (whole(b'{"error":"option \\"num_ctx\\" must be of type integer"}', 500), BackendRejected),
        (whole(b"", 302, extra="Location: http://192.0.2.1/\r\n"), BackendMisconfigured),
        (whole(b"\xff\xfe" * 100_000, 500), BackendFault),
    ],
)
async def test_statuses_become_typed_errors_and_redirects_are_not_followed(
    server: ScriptedServer, backend: OllamaBackend, script: Script, kind: type[ArrieroError]
) -> None:
    server.scripts["/api/chat"] = script
    with pytest.raises(kind):
        await chat(backend)
    assert len(server.requests) == 1


async def test_a_busy_servers_own_time_is_kept(server: ScriptedServer, backend: OllamaBackend) -> None:
    server.scripts["/api/chat"] = whole(b'{"error":"busy"}', 503, extra="Retry-After: 9\r\n")
    with pytest.raises(BackendBusy) as caught:
        await chat(backend)
    assert caught.value.retry_after_s == 9


async def _rubbish(reply: Reply) -> None:
    await reply.raw(b"SSH-2.0-OpenSSH_9.7\r\n\r\n")
    reply.cut()


async def _hang_up(reply: Reply) -> None:
    reply.cut()


async def test_what_is_no_http_is_a_protocol_error(server: ScriptedServer, backend: OllamaBackend) -> None:
    server.scripts["/api/chat"] = _rubbish
    with pytest.raises(BackendProtocolError):
        await chat(backend)


async def test_a_connection_closed_before_the_answer_is_unreachable(
    server: ScriptedServer, backend: OllamaBackend
) -> None:
    server.scripts["/api/chat"] = _hang_up
    with pytest.raises(BackendUnreachable):
        await chat(backend)


@pytest.mark.req("S2-28")
@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://no-such-host.invalid:11434"])
async def test_a_server_that_is_down_is_named_with_the_remedy(url: str) -> None:
    backend = OllamaBackend(url)
    with pytest.raises(BackendUnreachable) as caught:
        await chat(backend)
    assert "ollama serve" in caught.value.message
    assert "127.0.0.1" not in caught.value.message
    assert "invalid" not in caught.value.message
    await backend.aclose()


async def test_cloud_models_are_refused_before_any_call(server: ScriptedServer, backend: OllamaBackend) -> None:
    name = "gpt-oss:120b-cloud"
    with pytest.raises(BackendRejected):
        await chat(backend, ChatRequest(model=name, messages=ASK.messages))
    with pytest.raises(BackendRejected):
        await backend.embed(EmbeddingRequest(model=name, inputs=["a"]), request_id="j", timeouts=TIMEOUTS)
    with pytest.raises(BackendRejected):
        await backend.load(name)
    with pytest.raises(BackendRejected):
        async for _ in backend.pull(name):
            pass
    assert server.requests == []


async def test_cloud_models_pass_where_they_are_allowed(server: ScriptedServer) -> None:
    server.scripts["/api/chat"] = stream(END)
    backend = OllamaBackend(server.url, allow_cloud=True)
    assert await chat(backend, ChatRequest(model="glm:cloud", messages=ASK.messages)) == [ENDED]
    await backend.aclose()


@pytest.mark.parametrize("url", ["localhost:11434", "ftp://host", "http://", "", "unix:///x"])
def test_a_base_url_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="base URL"):
        OllamaBackend(url)


async def test_a_base_path_is_kept(server: ScriptedServer) -> None:
    server.scripts["/ollama/api/version"] = whole(b'{"version":"0.24.0"}')
    backend = OllamaBackend(server.url + "/ollama/")
    assert await backend.version() == "0.24.0"
    await backend.aclose()
