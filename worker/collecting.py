"""From a backend's stream to the whole answer, telling on the way whoever watches."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, cast

from shared.queue.running import RunningJob
from shared.wire.canonical import Delta, Finish, TextAnswer
from worker.observation import ObservedCall


async def collect(
    stream: AsyncIterator[Delta | Finish],
    job: RunningJob,
    model: str,
    seen: ObservedCall,
    on_first: Callable[[], None],
) -> TextAnswer:
    """The answer of `model`. Publishes each delta if the job keeps events. Raises what the stream raises.

    `on_first` is called with the answer's first piece.
    """
    answer = TextAnswer(model=model)
    content: list[str] = []
    thinking: list[str] = []
    signatures: list[str] = []
    publish = job.publish if job.keeps_events else None
    async with aclosing(cast("Any", stream)) as deltas:
        async for item in deltas:
            if isinstance(item, Finish):
                answer.finish_reason, answer.usage, answer.timings = item.reason, item.usage, item.timings
                continue
            if job.notes.first_token_at is None:
                job.notes.first_token_at = time.time()
                seen.first_token()
                on_first()
            if publish is not None:
                publish(item)
            content.append(item.content)
            if item.thinking:
                thinking.append(item.thinking)
            if item.signature:
                signatures.append(item.signature)
            if item.tool_calls:
                answer.tool_calls += item.tool_calls
            if item.logprobs:
                answer.logprobs += item.logprobs
    answer.content, answer.thinking = "".join(content), "".join(thinking)
    answer.signature = signatures[0] if len(signatures) == 1 else ""
    seen.answered(answer.usage, answer.timings)
    return answer
