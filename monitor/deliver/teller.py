"""From what the rules found to the channels: the log, the ledger, one outbox a channel."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from prometheus_client import Counter

from monitor.alerts import Alert, AlertState, Severity
from monitor.deliver.channels import Channel
from monitor.deliver.ledger import Ledger
from monitor.deliver.message import Message
from monitor.deliver.post import DeliveryFailed
from shared.telemetry.logging import logger

log = logger("alerts")

Outcome = Literal["delivered", "failed", "dropped", "left_to_another"]
MOST_WAITING = 100
"""Batches that wait for one channel; then the oldest goes."""
AGAIN_S = 60.0
"""How often a channel that wants it hears of what still fires."""
LAST_WORDS_S = 2.0


class Outbox:
    """One channel's queue. `put` never waits."""

    def __init__(self, channel: Channel, deliveries: Counter) -> None:
        self.channel = channel
        self._counts = {outcome: deliveries.labels(channel.name, outcome) for outcome in get_args(Outcome)}
        self._batches: deque[Sequence[Message]] = deque()
        self._filled = asyncio.Event()
        self._sent_all = asyncio.Event()
        self._sent_all.set()

    def put(self, batch: Sequence[Message]) -> None:
        if len(self._batches) >= MOST_WAITING:
            self.count("dropped", len(self._batches.popleft()))
        self._batches.append(batch)
        self._sent_all.clear()
        self._filled.set()

    def count(self, outcome: Outcome, messages: int = 1) -> None:
        self._counts[outcome].inc(messages)

    async def run(self) -> None:
        """Deliver what comes, for ever."""
        while True:
            await self._filled.wait()
            while self._batches:
                batch = self._batches.popleft()
                try:
                    await self.channel.send(batch)
                except DeliveryFailed as error:
                    self.count("failed", len(batch))
                    log.warning("alert.not_delivered", channel=self.channel.name, error=str(error))
                except Exception:  # the edge of a loop that must go on
                    self.count("failed", len(batch))
                    log.exception("alert.not_delivered", channel=self.channel.name)
                else:
                    self.count("delivered", len(batch))
            self._filled.clear()
            self._sent_all.set()

    async def sent_all(self) -> None:
        """Until nothing waits any more."""
        await self._sent_all.wait()


@dataclass(frozen=True, slots=True)
class Look:
    """What one evaluation of the rules found."""

    at: float
    changed: Sequence[Alert]
    firing: Sequence[Alert]


class Teller:
    """Takes each `Look` and tells of it in its own time. `start`, `stop`; each may be called twice."""

    def __init__(self, monitor_id: str, channels: Sequence[Channel], ledger: Ledger, deliveries: Counter) -> None:
        self._monitor_id = monitor_id
        self._ledger = ledger
        self._outboxes = [Outbox(channel, deliveries) for channel in channels]
        self._looks: asyncio.Queue[Look] = asyncio.Queue()
        self._told_again_at = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        if not self._tasks:
            loops = [self._run(), *(outbox.run() for outbox in self._outboxes)]
            self._tasks = [asyncio.create_task(loop) for loop in loops]

    async def stop(self) -> None:
        """What waits gets a moment to go out."""
        tasks, self._tasks = self._tasks, []
        if not tasks:
            return
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                await self.idle()
        except TimeoutError:
            log.warning("alert.left_undelivered")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def tell(self, look: Look) -> None:
        """Never waits. While the teller is held up, looks that changed nothing are left out."""
        for alert in look.changed:
            _write_log(alert)
        if look.changed or (look.firing and self._looks.empty()):
            self._looks.put_nowait(look)

    async def idle(self) -> None:
        """Until all that was told so far has gone out, or failed to."""
        await self._looks.join()
        await asyncio.gather(*(outbox.sent_all() for outbox in self._outboxes))

    async def _run(self) -> None:
        while True:
            look = await self._looks.get()
            try:
                await self._handle(look)
            except Exception:  # the edge of a loop that must go on
                log.exception("alert.not_told")
            finally:
                self._looks.task_done()

    async def _handle(self, look: Look) -> None:
        changed = [Message(alert=alert, monitor=self._monitor_id) for alert in look.changed]
        firing = [Message(alert=alert, monitor=self._monitor_id) for alert in look.firing]
        for message in changed:
            ours = await self._is_ours(message)
            for outbox in self._outboxes:
                if outbox.channel.told_once and ours:
                    outbox.put([message])
                elif outbox.channel.told_once:
                    outbox.count("left_to_another")
        await self._ledger.renew([message.fingerprint for message in firing])
        ended = [message for message in changed if message.is_over]
        if changed or (firing and look.at - self._told_again_at >= AGAIN_S):
            self._told_again_at = look.at
            for outbox in self._outboxes:
                if not outbox.channel.told_once:
                    outbox.put([*firing, *ended])

    async def _is_ours(self, message: Message) -> bool:
        if message.is_over:
            return await self._ledger.may_tell_end(message.fingerprint)
        return await self._ledger.may_tell(message.fingerprint)


def _write_log(alert: Alert) -> None:
    is_bad = alert.state is AlertState.FIRING
    write = (log.error if alert.rule.severity is Severity.CRITICAL else log.warning) if is_bad else log.info
    write(
        f"alert.{alert.state}",
        alert=alert.rule.name,
        about=alert.about,
        severity=str(alert.rule.severity),
        summary=alert.summary,
        value=alert.value,
        threshold=alert.rule.threshold,
    )
