"""What is wrong with configured services: a sentence each, with the name of the setting and the remedy. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from shared.egress import IPNetwork, is_within
from shared.services.config import ServiceConfig, is_address
from shared.services.presets import PRESETS
from shared.services.registry import AUTO, Registry


def url_conflicts(urls: Sequence[str], ollama: ServiceConfig | None) -> Iterator[str]:
    """Of Ollama's hosts, which may be given in two places."""
    for url in urls:
        if not is_address(url):
            yield f"OLLAMA_BASE_URLS: {url} is not the address of a host; write it as http://host:11434."
    if not urls:
        yield "OLLAMA_BASE_URLS: names no host; leave it out for http://localhost:11434."
    if ollama is not None and {url.rstrip("/") for url in urls} != set(ollama.urls):
        yield (
            "OLLAMA_BASE_URLS and SERVICES.ollama.urls: they are one setting and have different values. "
            "Keep OLLAMA_BASE_URLS only."
        )


def service_conflicts(service: ServiceConfig, inside: Sequence[IPNetwork] | None) -> Iterator[str]:
    """Of one service. `inside`: the networks of airgap mode; None: it is off."""
    preset = PRESETS.get(service.preset or service.name)
    at_home = preset is not None and set(service.urls) == {preset.url}
    if preset is not None and at_home and service.local and not preset.is_local:
        yield f"SERVICES.{service.name}.local: {preset.url} is not ours; leave `local` out, or name your own urls."
    if preset is not None and at_home and service.key and preset.key_pattern:
        source = service.api_key_env_var or f"SERVICES.{service.name}.api_key"
        if not re.fullmatch(preset.key_pattern, service.key):
            start = preset.key_pattern.partition("[")[0]
            yield (
                f"{source}: that is no key of {service.name}, which look like {start}...; copy it anew, "
                "or take it out to leave the service off."
            )
    if inside is not None and service.enabled and service.local:
        for url in service.urls:
            host = urlsplit(url).hostname or ""
            if _is_number(host) and not is_within(host, inside):
                yield (
                    f"AIRGAP_MODE: {host} of the service {service.name} is not a local address; add it to "
                    "AIRGAP_ALLOWED_NETWORKS if it is yours."
                )


def default_conflicts(registry: Registry, default: str, *, registers: bool) -> Iterator[str]:
    """Of the services as a whole. `registers`: others may come while the process runs."""
    if not registry.all() and not registers:
        yield "SERVICES: there is none to run models. Set OLLAMA_ENABLED=true, or configure another one."
    elif default not in registry and default != AUTO:
        off = next((one for one in registry.off if one.name == default), None)
        preset = PRESETS.get(default)
        if off is not None:
            yield f"DEFAULT_SERVICE: {off.reason} Or choose another default service."
        elif preset is not None and preset.key_variable:
            yield f"DEFAULT_SERVICE: {default} has no API key. Set {preset.key_variable}, or choose another one."
        elif not registers:
            known = ", ".join(service.name for service in registry.all())
            yield f"DEFAULT_SERVICE: there is no service {default}; there are {known}. Configure it in SERVICES."


def default_remarks(registry: Registry, default: str) -> Iterator[str]:
    """Of settings without conflicts: a default service that is yet to be registered."""
    if default not in registry and default != AUTO:
        yield (
            f"DEFAULT_SERVICE: there is no service {default} until it is registered; models named without a service "
            f"are at {registry.default_service} till then."
        )


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
