"""Leave a stream in the middle and take it up again with Last-Event-ID: nothing is missing, nothing comes twice.

The client does this by itself when a connection breaks. Here it is done by hand, as a browser's EventSource would.
"""

import json
import os
from collections.abc import Iterator

import httpx

URL = os.environ.get("ARRIERO_URL", "http://127.0.0.1:8000")
REQUEST = {"model": "llama3.2", "messages": [{"role": "user", "content": "Why do llamas hum? [tokens=60]"}]}


def pieces(http: httpx.Client, job_id: str, last_event_id: str = "") -> Iterator[tuple[str, str]]:
    """(event id, text) of each piece of the answer after that event."""
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    with http.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers, timeout=60) as response:
        fields: dict[str, str] = {}
        for line in response.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
                continue
            if fields.get("event") == "chunk":
                yield fields["id"], "".join(delta.get("content", "") for delta in json.loads(fields["data"])["deltas"])
            fields = {}


with httpx.Client(base_url=URL) as http:
    job_id = http.post("/v1/jobs", json={"type": "chat.completion", "request": REQUEST}).json()["id"]
    text, seen = "", ""
    for event_id, piece in pieces(http, job_id):
        text, seen = text + piece, event_id
        if len(text) > 30:
            break
    print("left after event", seen)
    for _, piece in pieces(http, job_id, seen):
        text += piece
    whole = http.get(f"/v1/jobs/{job_id}").json()["result"]["choices"][0]["message"]["content"]
    print("the same as the whole answer:", text == whole)

# Output:
# left after event 1-9
# the same as the whole answer: True
