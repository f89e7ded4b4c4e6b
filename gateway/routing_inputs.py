"""What a route is decided from: the request, the services there are, what the operator set. Values only."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

from msgspec import Struct

from gateway.catalogue import canonical_name
from gateway.classifier import Vocabulary
from gateway.routing_errors import Offer
from shared.routes import Candidate
from shared.wire.canonical import ChatRequest, CompletionRequest, EmbeddingRequest, Request

AUTO: Final = "auto"
"""As a model: the one of the request's task. As a service: any."""
PrivacyDetection = Literal["all", "auto", "off"]


def is_auto(name: str) -> bool:
    """Whether a name, with or without a service, leaves the choice of the model to the gateway."""
    return name.rpartition("~")[2].lower() == AUTO


@dataclass(frozen=True, slots=True)
class NamedBeside:
    """A service that a request names beside the model. `param`: where, as its caller calls it."""

    service: str
    param: str = "provider"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a body says beside the model: the service to ask, and whether the request is private."""

    service: NamedBeside | None = None
    private: bool | None = None


class Role(StrEnum):
    """What a model is there for. `CLOUD` are the default models of the services that are not ours."""

    DEFAULT = "default"
    FAST = "fast"
    CODE = "code"
    TOOL = "tool"
    VISION = "vision"
    CLOUD = "cloud"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A service in force, as routing sees it.

    `models` are those it is known to have: how it spells them, by canonical name; `is_complete` if it has no others.
    `tells`: it can be asked for them. `is_exact`: it knows a model by its own spelling only.
    """

    name: str
    is_local: bool
    models: Mapping[str, str] = field(default_factory=dict)
    is_complete: bool = True
    tells: bool = True
    is_available: bool = True
    is_exact: bool = False
    default_model: str = ""
    takes_pulls: bool = False

    def has(self, model: str) -> bool | None:
        """None: not known."""
        if canonical_name(model) in self.models:
            return True
        return False if self.is_complete else None

    def target(self, model: str) -> Candidate:
        """The model here, by a name that is understood here."""
        return Candidate(self.name, self.models.get(canonical_name(model), model) if self.is_exact else model)

    @property
    def offer(self) -> Offer:
        """What is said of it in a refusal."""
        return Offer(self.name, self.models.values(), self.takes_pulls)


@dataclass(frozen=True, slots=True)
class World:
    """The services in force in order of preference; `default`: the preferred one's name, empty for none.

    `off`: services that are known or configured but not in force, and a sentence on why. `loaded`: models in memory.
    """

    places: Mapping[str, Place]
    default: str = ""
    off: Mapping[str, str] = field(default_factory=dict)
    loaded: Sequence[Candidate] = ()

    @property
    def has_cloud(self) -> bool:
        return any(not place.is_local for place in self.places.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingPolicy:
    """What the operator set. `models`: names by role, with or without a service."""

    models: Mapping[Role, str]
    vocabulary: Vocabulary
    detection: PrivacyDetection = "all"
    falls_back: bool = True
    first_loaded: bool = False
    allowed: Collection[str] = ()


class Ask(Struct, frozen=True, kw_only=True):
    """What a caller wants. `service`: if one is named beside the model; `is_private`: the caller says so."""

    name: str
    request: Request
    service: NamedBeside | None = None
    is_private: bool = False

    @property
    def is_fixed(self) -> bool:
        """Whether nothing may stand in for its model: vectors of two models do not mix, a raw prompt is written for
        one model's template, and an order to load a model means that one."""
        match self.request:
            case ChatRequest():
                return not self.request.messages
            case CompletionRequest():
                return self.request.raw or not (self.request.prompt or self.request.suffix)
            case EmbeddingRequest():
                return True
