"""What a caller is told when a request can go nowhere: what is wrong, what is near it, what to do. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from shared.errors import BackendUnreachable, BadRequest, ModelNotFound, NotFound

NEAR_MATCHES = 3
NEAR_SERVICE = 0.65
"""How alike a service's name must be to be suggested: below it, `nope` is near `openai`."""
LONGEST_ECHO = 200
"""Characters of a caller's text that an error message repeats at most."""


class ServiceNotConfigured(NotFound):
    """No such service is configured."""

    code = "service_not_configured"


class PrivateRequest(BadRequest):
    """The request is private, and what it asks for is not on machines of ours."""

    code = "private_request"


@dataclass(frozen=True, slots=True)
class Offer:
    """A service and the names of its models. `takes_pulls`: models can be installed there from here."""

    name: str
    models: Collection[str]
    takes_pulls: bool = False


def model_missing(name: str, offers: Sequence[Offer], *, every_service: bool = True) -> ModelNotFound:
    """The 404 for a model that none of `offers` has: what is near it, and how to get it. `every_service`: they are all
    there are."""
    if len(name) > LONGEST_ECHO or not name.isprintable():
        return ModelNotFound("No model has such a name. GET /v1/models lists the installed ones.", param="model")
    where = "any backend" if every_service else _listed([offer.name for offer in offers])
    near = _near_models(name, offers)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    remedy = (
        f" To install it: `arriero models pull {name}`, or `ollama pull {name}` on a host."
        if any(offer.takes_pulls for offer in offers)
        else " GET /v1/models lists the models there are."
    )
    return ModelNotFound(f"The model '{name}' is not installed on {where}.{hint}{remedy}", param="model")


def _near_models(name: str, offers: Sequence[Offer]) -> list[str]:
    """Names as they are spelled there, with their service where there are several."""
    shown: dict[str, str] = {}
    for offer in offers:
        for model in offer.models:
            # Without the default tag, which would make every two names look alike.
            plain = model.removesuffix(":latest")
            shown.setdefault(plain.lower(), f"{offer.name}~{plain}" if len(offers) > 1 else plain)
    near = difflib.get_close_matches(name.lower().removesuffix(":latest"), shown, n=NEAR_MATCHES, cutoff=0.5)
    return [shown[match] for match in near]


def service_missing(
    name: str, known: Iterable[str], off: Mapping[str, str], *, param: str | None = "model"
) -> ServiceNotConfigured:
    """The 404 for a service that is not in force, named in `param`. `off` says why, and what would change that."""
    reason = off.get(name)
    if reason is not None:
        return ServiceNotConfigured(reason, param=param)
    names = list(known)
    near = difflib.get_close_matches(name, [*names, *off], n=1, cutoff=NEAR_SERVICE)
    hint = f" Did you mean {near[0]}?" if near else ""
    shown = f"'{name}'" if name.isprintable() and len(name) <= LONGEST_ECHO else "of that name"
    return ServiceNotConfigured(
        f"No service {shown} is configured; there is {_listed(names) or 'none'}.{hint}", param=param
    )


def conflicting_services(in_name: str, beside: str) -> BadRequest:
    return BadRequest(
        f"The model's name says the service {in_name!a}, the request says {beside!a}. Name one of them.", param="model"
    )


def names_no_model(service: str = "") -> BadRequest:
    if service:
        return BadRequest(
            f"The service {service} has no default model: name one, as in {service}~<model>.", param="model"
        )
    return BadRequest(
        "`auto` chooses no model for embeddings, since vectors of different models do not mix: name one.", param="model"
    )


def not_at_home(name: str, *, param: str = "model") -> PrivateRequest:
    """The 400 for a private request that only a service elsewhere could serve: `name`, which `param` asks for."""
    shown = f"`{name}`" if name.isprintable() and len(name) <= LONGEST_ECHO else "what it asks for"
    return PrivateRequest(
        f"The request is private, by its own word or by one of PRIVACY_WORDS in it, and {shown} is not on machines of "
        "ours: ask for a local model. GET /v1/models lists them.",
        param=param,
    )


def not_allowed() -> ModelNotFound:
    return ModelNotFound("This gateway does not serve that model. GET /v1/models lists those it does.", param="model")


def models_unknown(silent: Sequence[str], name: str) -> BackendUnreachable:
    """The 503 while it cannot be told whether a model exists."""
    return BackendUnreachable(
        f"No service is known to have that model, and {_listed(silent)} does not say now which it has. Try again "
        f"shortly, or name the service: {silent[0]}~{name if len(name) <= LONGEST_ECHO else '<model>'}.",
        param="model",
        retry_after_s=5,
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
