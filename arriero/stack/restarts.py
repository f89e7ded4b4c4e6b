"""How often a service that ends unasked is started again: a pure sliding window."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class RestartBudget:
    """At most `limit` restarts within `window_s` seconds."""

    limit: int = 5
    window_s: float = 60.0
    _at: list[float] = field(default_factory=list)

    def take(self, now: float) -> bool:
        """True: restart once more. False: the budget is used up."""
        self._at = [at for at in self._at if now - at < self.window_s]
        if len(self._at) >= self.limit:
            return False
        self._at.append(now)
        return True
