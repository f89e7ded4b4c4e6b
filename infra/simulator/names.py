"""Model names: `[host/][namespace/]model[:tag]`, matched without regard to case."""

from __future__ import annotations

import re

from infra.simulator.failures import ApiError

DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG = "registry.ollama.ai", "library", "latest"
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}\Z")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}\Z")


def full_name(name: str) -> str:
    """`host/namespace/model:tag` in lower case. Raises ApiError 400 for what is not a name, 403 for a cloud model."""
    local = name.removesuffix(":local")
    *where, last = local.split("/")
    model, _, tag = last.partition(":")
    host = where[-2] if len(where) > 1 else DEFAULT_HOST
    namespace = where[-1] if where else DEFAULT_NAMESPACE
    parts_fit = all(_PART.match(part) for part in (namespace, model, tag or DEFAULT_TAG))
    if len(where) > 2 or not parts_fit or not _HOST.match(host) or last.endswith(":"):
        raise ApiError(400, "invalid model name")
    if local == name and (tag == "cloud" or tag.endswith("-cloud")):
        raise ApiError(403, "ollama cloud is disabled: remote model is unavailable")
    return f"{host}/{namespace}/{model}:{tag or DEFAULT_TAG}".lower()


def shown_name(full: str) -> str:
    """The shortest form that keeps the tag, as in listings."""
    return full.removeprefix(f"{DEFAULT_HOST}/").removeprefix(f"{DEFAULT_NAMESPACE}/")


def stem(full: str) -> str:
    """The bare model name, without where it comes from and its tag."""
    return full.rsplit("/", 1)[-1].partition(":")[0]
