"""The channels: each turns messages into the form its receiver takes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

import msgspec

from monitor.alerts import Severity
from monitor.deliver.message import Message, alert_fields, rfc3339
from monitor.deliver.post import Post

ALERTMANAGER_KEEPS_S = 300.0
"""An alert that is not told again within this time counts as over there: monitors die without a word."""
_encode = msgspec.json.Encoder().encode


class Channel(Protocol):
    """One way to tell. `send` raises DeliveryFailed after its last try."""

    name: str
    told_once: bool
    """Of several monitors one tells, when an alert begins and when it ends. Otherwise all do, again and again."""

    async def send(self, messages: Sequence[Message]) -> None: ...


class Webhook:
    """Signed as Standard Webhooks has it: HMAC-SHA256 over `id.timestamp.body`.

    The body: {"type": "alert.firing" or "alert.resolved", "timestamp", "data": {the alert, "monitor", "host"}}.
    """

    name, told_once = "webhook", True

    def __init__(self, post: Post, url: str, key: bytes) -> None:
        self._post, self._url, self._key = post, url, key

    async def send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            body = webhook_body(message)
            # The timestamp is that of the try, or a late one would look like a replayed one.
            await self._post.send(self._url, body, partial(self._headers, message.id, body))

    def _headers(self, message_id: str, body: bytes) -> Mapping[str, str]:
        return signed_headers(self._key, message_id, int(time.time()), body)


def webhook_body(message: Message) -> bytes:
    alert = message.alert
    return _encode(
        {
            "type": f"alert.{alert.state}",
            "timestamp": rfc3339(alert.resolved_at or alert.fired_at),
            "data": {**alert_fields(alert), "monitor": message.monitor, "host": message.host},
        }
    )


def signed_headers(key: bytes, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers by which a receiver recognises us. `timestamp` in Unix seconds."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
    }


class Slack:
    """Slack's incoming webhook, which Mattermost and others take too."""

    name, told_once = "slack", True

    def __init__(self, post: Post, url: str) -> None:
        self._post, self._url = post, url

    async def send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            await self._post.send(self._url, _encode({"text": slack_text(message)}))


_SIGNS = {Severity.WARNING: ":warning:", Severity.CRITICAL: ":rotating_light:"}


def slack_text(message: Message) -> str:
    alert = message.alert
    if message.is_over:
        head = ":white_check_mark: *resolved*"
    else:
        head = f"{_SIGNS[alert.rule.severity]} *{alert.rule.severity}*"
    where = f" on {message.host}" if message.host else ""
    # The three characters that mean something in Slack's markup; model names come from callers.
    summary = alert.summary.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"{head} {summary}{where} (`{alert.rule.name}`)"


class Alertmanager:
    """Prometheus' Alertmanager, API v2. It finds out itself which alerts of several monitors are the same."""

    name, told_once = "alertmanager", False

    def __init__(self, post: Post, url: str) -> None:
        self._post, self._url = post, url.rstrip("/") + "/api/v2/alerts"

    async def send(self, messages: Sequence[Message]) -> None:
        now = time.time()
        await self._post.send(self._url, _encode([alertmanager_alert(message, now) for message in messages]))


def alertmanager_alert(message: Message, now: float) -> dict[str, object]:
    """One of API v2's postableAlerts."""
    alert = message.alert
    labels = {
        "alertname": f"arriero_{alert.rule.name}",
        "severity": str(alert.rule.severity),
        "service": "arriero",
        "host": message.host,
        "about": alert.about,
    }
    return {
        "labels": {name: value for name, value in labels.items() if value},
        "annotations": {"summary": alert.summary},
        "startsAt": rfc3339(alert.fired_at),
        "endsAt": rfc3339(alert.resolved_at or now + ALERTMANAGER_KEEPS_S),
    }
