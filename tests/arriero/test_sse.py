"""The event stream's parser and the resuming feed, without a network."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from arriero.models import Chunk, Queued, Restart, Started
from arriero.sse import RECONNECT_CAP_S, EventFeed, Frame, SseParser

STREAM = (
    ": queued position=7\n\n"
    'id: 1-0\nevent: started\ndata: {"attempt": 1}\n\n'
    'id: 1-1\r\nevent: chunk\r\ndata: {"deltas": [{"content": "ñandú "}]}\r\n\r\n'
    'id: 1-2\nevent: chunk\ndata: {"deltas":\ndata: [{"content": "🦙"}]}\n\n'
    'event: ended\ndata: {"id": "job_1", "status": "succeeded"}\n\n'
).encode()


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_frames_do_not_depend_on_where_the_bytes_are_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    feed = EventFeed()
    events = [event for a, b in pairwise(edges) for event in feed.feed(STREAM[a:b])]
    assert [type(event).__name__ for event in events] == ["Queued", "Started", "Chunk", "Chunk", "Ended"]
    assert "".join(event.text for event in events if isinstance(event, Chunk)) == "ñandú 🦙"
    assert feed.ended
    assert feed.last_event_id == "1-2"


def test_what_the_standard_says_about_fields() -> None:
    parser = SseParser()
    frames = list(parser.feed(b"data:no space\ndata:  two\nunknown: x\nid: 5\n\nevent: only-name\n\ndata\n\n"))
    assert frames == [Frame(event="message", data="no space\n two", id="5"), Frame(event="message", data="", id="5")]


def test_a_chunk_that_comes_again_is_left_out() -> None:
    feed = EventFeed("1-2")
    again = b'id: 1-2\nevent: chunk\ndata: {"deltas": [{"content": "old"}]}\n\n'
    fresh = b'id: 1-10\nevent: chunk\ndata: {"deltas": [{"content": "new"}]}\n\n'
    events = list(feed.feed(again + fresh))
    assert [event.text for event in events if isinstance(event, Chunk)] == ["new"]


def test_half_a_frame_of_a_broken_connection_is_forgotten() -> None:
    feed = EventFeed()
    assert list(feed.feed(b'id: 1-1\nevent: chunk\ndata: {"del')) == []
    assert feed.connected() == {"accept": "text/event-stream"}
    events = list(feed.feed(b'id: 1-1\nevent: chunk\ndata: {"deltas": [{"content": "x"}]}\n\n'))
    assert [event.text for event in events if isinstance(event, Chunk)] == ["x"]
    assert feed.connected()["last-event-id"] == "1-1"


def test_restart_and_position_are_told() -> None:
    feed = EventFeed()
    sent = (
        b': queued position=2\n\nid: 2-0\nevent: restart\ndata: {"attempt": 2}\n\nid: 3-0\nevent: started\ndata: {}\n\n'
    )
    assert list(feed.feed(sent)) == [Queued(2), Restart(2, "2-0"), Started(3, "3-0")]


def test_waits_between_connections_grow_to_a_limit_and_heed_the_server() -> None:
    feed = EventFeed()
    waits = [feed.lost() for _ in range(60)]
    assert max(waits) <= RECONNECT_CAP_S
    assert feed.lost(retry_after_s=9.0) == 9.0
    list(feed.feed(b": alive\n\n"))
    assert feed.retries == 0
