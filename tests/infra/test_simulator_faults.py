"""Faults by admin call and by header, over every error channel, and the call log that tells of them."""

from __future__ import annotations

import json
import time

import aiohttp
import pytest

from tests.conftest import WaitUntil
from tests.infra.conftest import Start
from tests.infra.simulator_api import Api

WHOLE_AND_STREAMED = pytest.mark.parametrize("stream", [True, False])
CHAT = {"model": "llama3.2", "messages": [{"role": "user", "content": "x"}]}


def header(**fault: object) -> str:
    return json.dumps(fault)


async def test_the_admin_face_sets_lists_and_clears(api: Api) -> None:
    fault = {
        "kind": "status",
        "status": 503,
        "probability": 1.0,
        "count": None,
        "match": {"path": "/api/chat", "model": None},
    }
    assert (await api.post("/_sim/faults", fault)).status == 200
    [listed] = (await api.get("/_sim/faults")).json["faults"]
    assert {key: listed[key] for key in fault} == fault
    assert (await api.chat()).status == 503 and (await api.generate()).status == 200
    await api.call("DELETE", "/_sim/faults")
    assert (await api.chat()).status == 200


async def test_calls_are_listed_with_all_their_fields_and_can_be_cleared(api: Api) -> None:
    before = time.time()
    await api.post("/api/chat", CHAT, x_request_id="job_1")
    calls = (await api.get("/_sim/calls")).json["calls"]
    assert [call["event"] for call in calls] == ["call", "load"]
    call = calls[0]
    assert set(call) == {"at", "event", "path", "model", "request_id", "status", "seconds", "cancelled"}
    assert before <= call["at"] <= time.time() and call["seconds"] < 5
    assert (call["path"], call["model"], call["request_id"]) == ("/api/chat", "llama3.2", "job_1")
    assert (call["status"], call["cancelled"]) == (200, False)
    await api.call("DELETE", "/_sim/calls")
    assert (await api.get("/_sim/calls")).json == {"calls": []}


async def test_a_running_call_is_listed_without_seconds(start: Start, wait_until: WaitUntil) -> None:
    api = await start(load_seconds=30)
    chat = api.start_chat()
    await wait_until(lambda: api.simulator.calls.entries("load"), description="the load began")
    [call] = await api.events("call")
    assert (call["seconds"], call["status"]) == (None, None)
    chat.cancel()


async def test_the_log_keeps_the_newest(start: Start) -> None:
    api = await start(call_log_size=3)
    for at in range(5):
        await api.post("/api/chat", CHAT, x_request_id=str(at))
    assert [call["request_id"] for call in await api.events("call")] == ["2", "3", "4"]


async def test_reset_goes_back_to_the_start(api: Api) -> None:
    await api.generate("", keep_alive="1h")
    await api.post("/_sim/faults", {"kind": "hang"})
    await api.call("DELETE", "/api/delete", {"model": "mistral"})
    await api.post("/_sim/reset", {})
    assert (await api.get("/_sim/calls")).json == {"calls": []} and (await api.get("/_sim/faults")).json == {
        "faults": []
    }
    assert await api.loaded() == [] and (await api.chat(model="mistral")).status == 200


async def test_a_count_is_used_up(api: Api) -> None:
    await api.post("/_sim/faults", {"kind": "status", "status": 500, "count": 2})
    assert [(await api.chat()).status for _ in range(4)] == [500, 500, 200, 200]
    assert (await api.get("/_sim/faults")).json == {"faults": []}


async def test_a_probability_hits_now_and_then_and_the_same_way_after_a_reset(api: Api) -> None:
    runs = []
    for _ in range(2):
        await api.post("/_sim/reset", {})
        await api.post("/_sim/faults", {"kind": "status", "probability": 0.5})
        runs.append([(await api.chat()).status for _ in range(40)])
    assert runs[0] == runs[1] and 8 < runs[0].count(500) < 32


@pytest.mark.parametrize(
    ("match", "struck"),
    [
        ({}, {"chat"}),
        ({"model": "llama3.2:latest"}, {"chat"}),
        ({"model": "mistral"}, set()),
        ({"path": "/api/*"}, {"chat", "version"}),
        ({"path": "*"}, {"chat", "version"}),
        ({"path": "/api/version"}, {"version"}),
    ],
)
async def test_what_a_fault_matches(api: Api, match: dict[str, str], struck: set[str]) -> None:
    await api.post("/_sim/faults", {"kind": "status", "match": match})
    statuses = {"chat": (await api.chat()).status, "version": (await api.get("/api/version")).status}
    assert {name for name, status in statuses.items() if status == 500} == struck


@pytest.mark.parametrize(
    "fault",
    [{}, {"kind": "magic"}, {"kind": "status", "status": 99}, {"kind": "cut", "probability": 2},
     {"kind": "cut", "x": 1}, {"kind": "hang", "count": 0}, {"kind": "drip", "delay_seconds": -1}],
)  # fmt: skip
async def test_a_bad_fault_is_refused_with_a_reason(api: Api, fault: dict[str, object]) -> None:
    reply = await api.post("/_sim/faults", fault)
    assert reply.status == 400 and "not a fault" in reply.json["error"]
    assert (await api.post("/api/chat", CHAT, x_sim_fault=json.dumps(fault))).status == 400


async def test_a_status_can_carry_a_raw_body_and_retry_after(api: Api) -> None:
    plain = await api.post("/api/chat", CHAT, x_sim_fault=header(kind="status", status=503))
    assert plain.json == {"error": "server busy, please try again.  maximum pending requests exceeded"}
    assert "retry-after" not in plain.headers
    raw = await api.post("/api/chat", CHAT, x_sim_fault=header(kind="status", status=502, body="", retry_after=7))
    assert (raw.status, raw.body, raw.headers["retry-after"]) == (502, b"", "7")


async def test_a_status_on_v1_has_openais_shape(api: Api) -> None:
    reply = await api.post("/v1/chat/completions", CHAT, x_sim_fault="status")
    assert reply.status == 500 and reply.json["error"]["type"] == "api_error"


async def test_refuse_drops_the_connection_without_a_byte(api: Api) -> None:
    with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
        await api.post("/api/chat", CHAT, x_sim_fault="refuse")
    [call] = await api.events("call")
    assert (call["status"], call["cancelled"]) == (None, False)


async def test_a_hang_is_silent_for_as_long_as_it_is_told(api: Api) -> None:
    started = time.perf_counter()
    reply = await api.post("/api/chat", CHAT, x_sim_fault=header(kind="hang", delay_seconds=0.3))
    assert reply.lines[-1]["done"] is True and time.perf_counter() - started >= 0.3


async def test_a_hang_without_end_ends_with_the_client(api: Api, wait_until: WaitUntil) -> None:
    await api.post("/_sim/faults", {"kind": "hang"})
    chat = api.start_chat()
    await wait_until(lambda: api.simulator.calls.entries("call"), description="the call arrived")
    chat.cancel()
    await wait_until(lambda: api.simulator.calls.entries("call")[0].cancelled, description="the call ended")


async def test_a_hang_in_mid_stream_comes_after_so_many_tokens(api: Api) -> None:
    await api.post("/_sim/faults", {"kind": "hang", "after_tokens": 2, "delay_seconds": 0.3, "count": 1})
    at = [at async for at, _ in api.timed_lines("/api/chat", CHAT)]
    assert at[1] < 0.25 and at[2] >= 0.3 and len(at) > 40


@WHOLE_AND_STREAMED
async def test_a_cut_breaks_off_inside_the_answer(api: Api, stream: bool) -> None:
    with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
        await api.post("/api/chat", {**CHAT, "stream": stream}, x_sim_fault=header(kind="cut", after_tokens=2))
    [call] = await api.events("call")
    assert (call["status"], call["cancelled"]) == (200, False)


async def test_a_cut_sends_the_tokens_before_it_and_half_a_line(api: Api) -> None:
    await api.post("/_sim/faults", {"kind": "cut", "after_tokens": 2})
    lines = []
    with pytest.raises((aiohttp.ClientPayloadError, json.JSONDecodeError)):
        async for _, line in api.timed_lines("/api/chat", CHAT):
            lines.append(line)
    assert len(lines) == 2


@WHOLE_AND_STREAMED
async def test_a_drip_is_slow(api: Api, stream: bool) -> None:
    body = {"model": "llama3.2", "messages": [{"role": "user", "content": "x [tokens=8]"}], "stream": stream}
    started = time.perf_counter()
    reply = await api.post("/api/chat", body, x_sim_fault=header(kind="drip", delay_seconds=0.04))
    assert reply.lines[-1]["done"] is True and time.perf_counter() - started >= 0.27


async def test_no_done_ends_cleanly_without_done(api: Api) -> None:
    streamed = await api.post("/api/chat", CHAT, x_sim_fault=header(kind="no_done", after_tokens=4))
    assert streamed.status == 200 and [line["done"] for line in streamed.lines] == [False] * 4
    whole = await api.post("/api/chat", {**CHAT, "stream": False}, x_sim_fault="no_done")
    assert whole.json["done"] is False and "done_reason" not in whole.json


async def test_a_late_error_is_a_line_at_200(api: Api) -> None:
    fault = header(kind="garbage", variant="error_line", after_tokens=4)
    reply = await api.post("/api/chat", CHAT, x_sim_fault=fault)
    assert reply.status == 200 and len(reply.lines) == 5
    assert reply.lines[-1] == {"error": "an error was encountered while running the model: unexpected EOF"}


async def test_v1_loses_late_errors(api: Api) -> None:
    fault = header(kind="garbage", variant="error_line", after_tokens=1)
    reply = await api.post("/v1/chat/completions", {**CHAT, "stream": True}, x_sim_fault=fault)
    events = [json.loads(event.removeprefix(b"data: ")) for event in reply.body.split(b"\n\n") if event]
    assert events[-1]["model"] == "" and b"[DONE]" not in reply.body
    assert all(event["choices"][0]["finish_reason"] is None for event in events)


@WHOLE_AND_STREAMED
@pytest.mark.parametrize("variant", ["truncated_json", "nul", "html"])
async def test_garbage_is_not_json(api: Api, variant: str, stream: bool) -> None:
    reply = await api.post("/api/chat", {**CHAT, "stream": stream}, x_sim_fault=header(kind="garbage", variant=variant))
    assert reply.status == 200
    with pytest.raises(ValueError):
        assert reply.lines


@WHOLE_AND_STREAMED
async def test_a_huge_line_is_valid(api: Api, stream: bool) -> None:
    fault = header(kind="garbage", variant="huge_line", size_bytes=1_000_000)
    reply = await api.post("/api/chat", {**CHAT, "stream": stream}, x_sim_fault=fault)
    assert len(reply.body) > 1_000_000 and reply.lines[-1]["done"] is True


@WHOLE_AND_STREAMED
async def test_a_sign_split_over_two_writes_is_whole_at_the_end(api: Api, stream: bool) -> None:
    fault = header(kind="garbage", variant="split_utf8")
    reply = await api.post("/api/chat", {**CHAT, "stream": stream}, x_sim_fault=fault)
    assert "🦙" in reply.text and reply.lines[-1]["done"] is True


async def test_done_can_come_twice(api: Api) -> None:
    reply = await api.post("/api/chat", CHAT, x_sim_fault=header(kind="garbage", variant="duplicate_done"))
    assert [line["done"] for line in reply.lines].count(True) == 2


async def test_a_raw_body_can_stand_for_an_answer(api: Api) -> None:
    reply = await api.post("/api/chat", CHAT, x_sim_fault=header(kind="garbage", body="what?"))
    assert (reply.status, reply.body) == (200, b"what?")


@pytest.mark.parametrize(
    ("variant", "shape"),
    [("embedding_count", [768]), ("embedding_dimension", [768, 767]), ("embedding_nan", [768, 768])],
)
async def test_embeddings_can_be_wrong(api: Api, variant: str, shape: list[int]) -> None:
    body = {"model": "nomic-embed-text", "input": ["a", "b"]}
    reply = await api.post("/api/embed", body, x_sim_fault=header(kind="garbage", variant=variant))
    assert [len(vector) for vector in reply.json["embeddings"]] == shape
    assert (b"NaN" in reply.body) is (variant == "embedding_nan")


async def test_a_load_can_fail(api: Api) -> None:
    text = "llama-server process has terminated: exit status 1: out of memory"
    await api.post("/_sim/faults", {"kind": "status", "body": text, "count": 1, "match": {"path": "load"}})
    failed = await api.chat()
    assert (failed.status, failed.json) == (500, {"error": text})
    assert (await api.chat()).status == 200
    assert [load["cancelled"] for load in await api.events("load")] == [True, False]


async def test_a_pull_can_break_off(start: Start) -> None:
    api = await start(pull_seconds=0.3)
    fault = header(kind="garbage", variant="error_line", after_tokens=2)
    lines = (await api.post("/api/pull", {"model": "phi3"}, x_sim_fault=fault)).lines
    assert len(lines) == 3 and lines[-1] == {"error": "max retries exceeded: unexpected EOF"}
