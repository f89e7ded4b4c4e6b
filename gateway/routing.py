"""Where a request goes: a name, what the request says and the services there are, to a route or an error. Pure.

A name is read in this order; `gateway/routing_table.py` has an example of each, `docs/routing.md` shows them:
  1. `service~model`, `service:model` if there is such a service, or a bare name with the service named beside it:
     that service and no other
  2. `auto`: the model of the request's task (`gateway.classifier`), on machines of ours where they have it
  3. a bare name: the default service, unless it is known not to have the model; then the others that have it
  4. a name that nobody has: the first loaded model, if the operator wants that, else 404 with near names
A private request sees only the services on machines of ours. Embeddings, raw prompts and orders to load a model get one
candidate: nothing may stand in for their model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Final

from gateway.classifier import Task, facts_of, task_of, text_of
from gateway.routing_errors import (
    conflicting_services,
    model_missing,
    models_unknown,
    names_no_model,
    not_allowed,
    not_at_home,
    service_missing,
)
from gateway.routing_inputs import AUTO, Ask, Place, Role, RoutingPolicy, World, is_auto
from shared.model_names import is_allowed
from shared.routes import Candidate, Route
from shared.services.names import ModelName, parse
from shared.wire.canonical import EmbeddingRequest

MOST_CANDIDATES: Final = 4


class Reason(StrEnum):
    """Why a route is what it is: the word in `x-arriero-route`, in job records and in metrics."""

    NAMED = "named"
    DEFAULT = "default"
    FOUND = "found"
    FIRST_LOADED = "first_loaded"
    PRIVATE = "private"
    TOOLS = "tools"
    IMAGES = "images"
    SHORT = "short"
    CODE = "code"
    COMPLEX = "complex"
    GENERAL = "general"


MEANINGS: Mapping[Reason, str] = {
    Reason.NAMED: "The caller named the service.",
    Reason.DEFAULT: "The default service has the model, or does not say.",
    Reason.FOUND: "Another service has it.",
    Reason.FIRST_LOADED: "Nobody has it; this one is in memory.",
    Reason.PRIVATE: "`auto`, for a private request.",
    Reason.TOOLS: "`auto`: it offers tools.",
    Reason.IMAGES: "`auto`: it shows images.",
    Reason.SHORT: "`auto`: it has few words.",
    Reason.CODE: "`auto`: it is about code.",
    Reason.COMPLEX: "`auto`: it is complex.",
    Reason.GENERAL: "`auto`: it is none of these.",
}
ROLES: Mapping[Task, tuple[Role, ...]] = {
    Task.TOOLS: (Role.TOOL, Role.CLOUD, Role.DEFAULT),
    Task.IMAGES: (Role.VISION, Role.CLOUD, Role.DEFAULT),
    Task.SHORT: (Role.FAST, Role.DEFAULT, Role.CLOUD),
    Task.CODE: (Role.CODE, Role.DEFAULT, Role.CLOUD),
    Task.COMPLEX: (Role.CLOUD, Role.DEFAULT),
    Task.GENERAL: (Role.DEFAULT, Role.CLOUD),
}
"""Who is asked for a task, in order."""


BY_NAME = frozenset({Reason.NAMED, Reason.DEFAULT, Reason.FOUND})
"""Why a route holds for all requests for that name of one kind and the same privacy, whatever else they say."""


def stays_home(ask: Ask, world: World, policy: RoutingPolicy) -> bool:
    """Whether the request is private: the caller says so, or its words do. Raises what `parse` raises."""
    if ask.is_private or policy.detection == "off":
        return ask.is_private
    if policy.detection == "auto" and not is_auto(parse(ask.name, world.places, _beside(ask)).model):
        return False
    return policy.vocabulary.private.found_in(text_of(ask.request))


def decide(ask: Ask, world: World, policy: RoutingPolicy, *, private: bool | None = None) -> Route:
    """Where the request may go. `private`: what `stays_home` says of it, if it was asked already.

    Raises ModelNotFound, ServiceNotConfigured, PrivateRequest, BackendUnreachable (nobody is known to have the model,
    and a service does not say), BadRequest for a name that cannot be followed."""
    beside = _beside(ask)
    name = parse(ask.name, world.places, beside)
    if beside and name.service != beside:
        raise conflicting_services(name.service, beside)
    wants_auto = is_auto(name.model)
    if wants_auto and isinstance(ask.request, EmbeddingRequest):
        raise names_no_model()
    if private is None:
        private = stays_home(ask, world, policy)
    if name.service:
        return _named(ask, name, private, world, policy)
    if wants_auto:
        return _by_task(ask, private, world, policy)
    return _by_name(ask, private, world, policy)


# -- 1. the service is named ------------------------------------------------------------------------------------------


def _named(ask: Ask, name: ModelName, private: bool, world: World, policy: RoutingPolicy) -> Route:
    wants_default = is_auto(name.model)
    param = "model" if name.prefixed or ask.service is None else ask.service.param
    place = world.places.get(name.service)
    if place is None:
        raise service_missing(name.service, world.places, world.off, param=param)
    if private and not place.is_local:
        # `auto` beside a service may be our own word, for a model that nobody named.
        raise not_at_home(name.service if wants_default and not name.prefixed else name.qualified, param=param)
    model = place.default_model if wants_default else name.model
    if not model:
        raise names_no_model(place.name)
    target = place.target(model)
    if not _may_serve(target, policy):
        raise not_allowed()
    # Whoever names a service elsewhere is taken at their word: its aliases are in no list.
    if place.is_local and place.has(model) is False:
        raise model_missing(model, [place.offer], every_service=False)
    return Route(candidates=(target,), reason=Reason.NAMED, local_only=private, explicit=True)


def _beside(ask: Ask) -> str:
    """The service named beside the model; empty: none."""
    return "" if ask.service is None else ask.service.service


def _may_serve(target: Candidate, policy: RoutingPolicy) -> bool:
    allowed = policy.allowed
    return not allowed or is_allowed(target.model, allowed) or is_allowed(target.qualified, allowed)


# -- 2. the task decides ----------------------------------------------------------------------------------------------


def _by_task(ask: Ask, private: bool, world: World, policy: RoutingPolicy) -> Route:
    task = task_of(facts_of(ask.request), policy.vocabulary)
    places = _reachable(world, private)
    wanted = [target for role in ROLES[task] for target in _for_role(role, places, world, policy)]
    found = [target for target in dict.fromkeys(wanted) if _may_serve(target, policy)]
    if not found:
        if private and world.has_cloud:
            raise not_at_home(AUTO)
        raise model_missing(policy.models[Role.DEFAULT], [place.offer for place in places])
    reason = Reason.PRIVATE if private else Reason(task.value)
    return Route(candidates=_cut(found, ask, policy), reason=reason, local_only=private)


def _for_role(role: Role, places: Sequence[Place], world: World, policy: RoutingPolicy) -> Iterator[Candidate]:
    if role is Role.CLOUD:
        clouds = [place for place in places if not place.is_local and place.default_model]
        yield from (Candidate(place.name, place.default_model) for place in sorted(clouds, key=_rank))
        return
    name = parse(policy.models[role], world.places, "")
    # The operator's own words for a place count; without them the model is looked for on machines of ours.
    here = [place for place in places if (place.name == name.service if name.service else place.is_local)]
    known = [place for place in here if place.has(name.model)] or [place for place in here if not place.is_complete]
    if known:
        yield min(known, key=_rank).target(name.model)


# -- 3. a bare name ---------------------------------------------------------------------------------------------------


def _by_name(ask: Ask, private: bool, world: World, policy: RoutingPolicy) -> Route:
    model = ask.name
    preferred = world.places.get(world.default)
    if preferred is not None and private and not preferred.is_local:
        preferred = None
    reason, found = Reason.DEFAULT, []
    if preferred is not None and preferred.has(model) is not False:
        found = [preferred.target(model)]
    if len(world.places) > 1:
        others = [place for place in _reachable(world, private) if place is not preferred]
        having = sorted((place for place in others if place.has(model)), key=_rank)
        if not found:
            reason = Reason.FOUND
            # One that is silent just now may have it. Only ours: a mistyped name is not tried out on strangers.
            having = having or [place for place in others if place.is_local and place.has(model) is None]
        found += [place.target(model) for place in having]
        if found:
            taken = {target.service for target in found}
            found += [
                Candidate(place.name, place.default_model)
                for place in sorted(others, key=_rank)
                if place.default_model and place.name not in taken and place.has(place.default_model) is not False
            ]
    found = [target for target in found if _may_serve(target, policy)]
    if found:
        return Route(candidates=_cut(found, ask, policy), reason=reason, local_only=private)
    return _unknown(ask, private, world, policy)


# -- 4. a name that nobody has ----------------------------------------------------------------------------------------


def _unknown(ask: Ask, private: bool, world: World, policy: RoutingPolicy) -> Route:
    if not _may_serve(Candidate("", ask.name), policy):
        raise not_allowed()
    places = _reachable(world, private)
    if policy.first_loaded and not ask.is_fixed:
        names = {place.name for place in places}
        for target in world.loaded:
            if target.service in names and _may_serve(target, policy):
                return Route(candidates=(target,), reason=Reason.FIRST_LOADED, local_only=private)
    if private and any(not place.is_local and place.has(ask.name) is not False for place in world.places.values()):
        raise not_at_home(ask.name)
    silent = [place.name for place in places if place.tells and place.has(ask.name) is None]
    if silent:
        raise models_unknown(silent, ask.name)
    raise model_missing(ask.name, [place.offer for place in places])


# -- what they share --------------------------------------------------------------------------------------------------


def _reachable(world: World, private: bool) -> list[Place]:
    return [place for place in world.places.values() if place.is_local or not private]


def _rank(place: Place) -> tuple[bool, bool]:
    """Among equals, those that answer go first, and of them ours."""
    return (not place.is_available, not place.is_local)


def _cut(found: Sequence[Candidate], ask: Ask, policy: RoutingPolicy) -> tuple[Candidate, ...]:
    return tuple(found[:1] if ask.is_fixed or not policy.falls_back else found[:MOST_CANDIDATES])
