"""Which models at which services may serve a job, best first. Pure.

  1. the candidates of its route, in their order; without a route, its model at the service that its name means
  2. the same model at the other services that are known to have it, ours before the cloud's
  3. the stand-ins of its model (FALLBACK_MODELS, FALLBACK_CHAINS), simplified
  4. the default models of the other services
2 and 4 are for ENABLE_FALLBACK, and not for a caller who named the service. An embedding, a raw prompt and an order to
load stay with the candidates that have their first one's model. From all of it goes what is not in force here, what
ALLOWED_MODELS shuts out and, for a job that must not leave our machines, every service that is not ours.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from shared.errors import ModelNotFound, NoLocalBackend, ServiceUnavailable
from shared.model_names import is_allowed, same
from shared.routes import Candidate, Route
from shared.services.config import ServiceConfig
from shared.services.names import TILDE, parse
from shared.services.registry import Registry
from shared.wire.canonical import Request
from worker.fallback import FallbackPolicy, chain, is_for_one_model


class Origin(StrEnum):
    """Why a step is in an itinerary."""

    ASKED = "asked"
    ELSEWHERE = "elsewhere"
    """The same model at a service that nobody named: only if it is known to have it."""
    STAND_IN = "stand_in"
    DEFAULT = "default"


class Step(NamedTuple):
    """A model at a service."""

    service: str
    model: str
    origin: Origin = Origin.ASKED

    @property
    def qualified(self) -> str:
        return f"{self.service}{TILDE}{self.model}"


@dataclass(slots=True, frozen=True)
class Itinerary:
    """`asked`: what the job would best be served by, in force here or not. `steps`: at least one."""

    asked: Step
    steps: tuple[Step, ...]


def itinerary(
    request: Request,
    route: Route | None,
    services: Registry,
    policy: FallbackPolicy,
    *,
    local_only: bool = False,
    allowed: Collection[str] = (),
    across: bool = True,
) -> Itinerary:
    """The itinerary of a job. `across`: ENABLE_FALLBACK.

    Raises NoLocalBackend, ServiceUnavailable, or ModelNotFound for a model that is not allowed.
    """
    candidates, is_explicit = _candidates(request, route, services)
    first = candidates[0]
    local_only = local_only or (route is not None and route.local_only)
    across = across and not is_explicit
    found: dict[tuple[str, str], Step] = {}
    for candidate in candidates:
        _add(found, candidate.service, candidate.model, Origin.ASKED)
    if is_for_one_model(request):
        found = {key: step for key, step in found.items() if same(step.model) == same(first.model)}
    else:
        _extend(found, first, request, services, policy, across=across)
    known = [step for step in found.values() if step.service in services]
    if not across:
        named = {candidate.service for candidate in candidates}
        known = [step for step in known if step.service in named]
    ours = [step for step in known if not local_only or _is_local(services.get(step.service))]
    steps = tuple(step for step in ours if _is_allowed(step, allowed))
    if steps:
        return Itinerary(Step(first.service, first.model), steps)
    if not known:
        raise ServiceUnavailable(
            f"The service {first.service} is not available: it is not configured, has no key, or is not allowed here."
        )
    if not ours:
        raise NoLocalBackend
    # A gateway with other settings, or a replay, let it in.
    raise ModelNotFound("ALLOWED_MODELS of the worker does not have the job's model.", param="model")


def _candidates(request: Request, route: Route | None, services: Registry) -> tuple[tuple[Candidate, ...], bool]:
    """The candidates, and whether the caller named their service."""
    if route is not None and route.candidates:
        return route.candidates, route.explicit
    name = parse(request.model, services, services.default_service)
    return (Candidate(name.service, name.model),), name.prefixed


def _extend(
    found: dict[tuple[str, str], Step],
    first: Candidate,
    request: Request,
    services: Registry,
    policy: FallbackPolicy,
    *,
    across: bool,
) -> None:
    others = sorted(services.all(), key=lambda service: not service.local) if across else []
    for service in others:
        _add(found, service.name, first.model, Origin.ELSEWHERE)
    for stand_in in chain(request, policy, asked=first.model)[1:]:
        name = parse(stand_in, services, services.default_service)
        _add(found, name.service, name.model, Origin.STAND_IN)
    for service in others:
        if service.default_model and service.name != first.service:
            _add(found, service.name, service.default_model, Origin.DEFAULT)


def _add(found: dict[tuple[str, str], Step], service: str, model: str, origin: Origin) -> None:
    found.setdefault((service, same(model)), Step(service, model, origin))


def _is_local(service: ServiceConfig | None) -> bool:
    return service is not None and service.local


def _is_allowed(step: Step, allowed: Collection[str]) -> bool:
    return is_allowed(step.model, allowed) or is_allowed(step.qualified, allowed)
