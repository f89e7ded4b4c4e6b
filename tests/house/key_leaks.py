"""Which keys may be without a TTL. Every other key must carry one, or a busy server fills up in the end."""

from __future__ import annotations

import re

from redis import Redis

MAY_LIVE_FOR_EVER = (
    # The queue of one shard, members leave by themselves (docs/design.md, Keys).
    r"gw:\{[^}]+\}:(lines|tags):(high|normal|low)",
    r"gw:\{[^}]+\}:line:(high|normal|low):.+",
    r"gw:\{[^}]+\}:alarms",
    r"gw:\{[^}]+\}:wake",
    # Indexes that the sweep trims and, once empty, removes.
    r"gw:\{[^}]+\}:tenant:.+",
    r"gw:\{[^}]+\}:tenants",
    r"gw:\{[^}]+\}:workers",
    r"gw:\{[^}]+\}:dlq",
    # Bounded by the number of fields, not by traffic.
    r"gw:\{[^}]+\}:turns",
    r"gw:\{[^}]+\}:counters",
    r"gw:\{[^}]+\}:(depth|slots|shared-calls|hosts|tenures)",
    r"gw:\{[^}]+\}:load",
    r"gw:\{[^}]+\}:unfinished(-models)?",
    r"gw:\{[^}]+\}:usage-since",
    r"gw:\{[^}]+\}:leader-epoch",
    # Configuration.
    r"gw:\{[^}]+\}:keys",
    r"gw:\{[^}]+\}:pins",
    r"gw:\{[^}]+\}:(services|default-service)",
)
OF_ONE_JOB = re.compile(r"gw:(?P<own>\{[^}]+\}):(?:j|events):(?P<id>.+)|arq:job:(?P<arq>\{[^}]+\})(?P<job>.+)")
"""What an unfinished job has: its end gives all of it a TTL or deletes it, and its alarm sees to the end."""
_ALLOWED = re.compile("|".join(f"(?:{pattern})" for pattern in MAY_LIVE_FOR_EVER))
NO_EXPIRY = -1


def leaked_keys(client: Redis) -> list[str]:
    """Names of keys that have no TTL, are not on the list and do not belong to an unfinished job, sorted."""
    names = [name.decode(errors="replace") for name in client.scan_iter(count=1000)]
    suspects = [name for name in names if not _ALLOWED.fullmatch(name)]
    return sorted(name for name in suspects if client.ttl(name) == NO_EXPIRY and not _will_end(client, name))


def _will_end(client: Redis, name: str) -> bool:
    found = OF_ONE_JOB.fullmatch(name)
    if found is None:
        return False
    tag, job_id = found["own"] or found["arq"], found["id"] or found["job"]
    return client.zscore(f"gw:{tag}:alarms", job_id) is not None
