"""An alert as it is told: what every channel makes its own form of."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime

from monitor.alerts import Alert, AlertState, Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One alert that began to fire, still fires, or is over."""

    alert: Alert
    monitor: str
    """Who tells."""
    id: str = field(default_factory=lambda: f"msg_{secrets.token_hex(12)}")
    """Stays the same over all tries, so that a receiver can drop what it has seen."""

    @property
    def is_over(self) -> bool:
        return self.alert.state is AlertState.RESOLVED

    @property
    def host(self) -> str:
        """The machine it is about; empty for the fleet's."""
        return self.monitor if self.alert.rule.place is Place.HOST else ""

    @property
    def fingerprint(self) -> str:
        """The same for two monitors that see the same trouble."""
        return ":".join(part for part in (self.alert.rule.name, self.host, self.alert.about) if part)


def alert_fields(alert: Alert) -> dict[str, object]:
    """An alert as pages and webhooks show it. Times are RFC 3339, null while they have not come."""
    rule = alert.rule
    return {
        "alert": rule.name,
        "about": alert.about,
        "state": alert.state,
        "severity": rule.severity,
        "place": rule.place,
        "summary": alert.summary,
        "metric": rule.metric,
        "value": alert.value,
        "threshold": rule.threshold,
        "since": rfc3339(alert.since),
        "fired_at": rfc3339(alert.fired_at),
        "resolved_at": rfc3339(alert.resolved_at),
    }


def rfc3339(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
