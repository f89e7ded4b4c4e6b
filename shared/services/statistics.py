"""What was done with each service, added up from what the workers record of models and hosts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from shared.usage.figures import UNUSED, ModelUsage, OperationUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatistics:
    """Totals since recording began. `latency` is in seconds, over all calls that ended; None without any."""

    service: str
    requests: int = 0
    failures: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    mean_latency_s: float | None = None
    p95_latency_s: float | None = None
    last_used_at: float = 0.0
    """Unix seconds by Redis' clock; 0: never."""


def host_name(backend: str, service: str, taken: Iterable[str]) -> str:
    """What a service's backend is called in records, circuits and figures: its own name, unless another has it."""
    if backend not in taken:
        return backend
    named = f"{service}/{backend}"
    return named if named not in taken else f"{named}-{sum(name.startswith(named) for name in taken) + 1}"


def by_service(
    usages: Iterable[ModelUsage], services: Iterable[str], hosts: Mapping[str, str]
) -> list[ServiceStatistics]:
    """Of each of `services`, in their order. `hosts`: host -> the service it belongs to; others are left out."""
    totals: dict[str, OperationUsage] = dict.fromkeys(services, UNUSED)
    used_at: dict[str, float] = {}
    for usage in usages:
        service = hosts.get(usage.host)
        if service in totals:
            totals[service] += usage.total
            used_at[service] = max(used_at.get(service, 0.0), usage.last_used_at)
    return [_statistics(service, total, used_at.get(service, 0.0)) for service, total in totals.items()]


def _statistics(service: str, total: OperationUsage, used_at: float) -> ServiceStatistics:
    return ServiceStatistics(
        service=service,
        requests=total.calls,
        failures=total.failed,
        tokens_in=total.tokens_in,
        tokens_out=total.tokens_out,
        mean_latency_s=total.latency.mean_s,
        p95_latency_s=total.latency.percentile_s(0.95),
        last_used_at=used_at,
    )
