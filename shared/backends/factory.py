"""From a configured service to its backends: one table, a row a dialect."""

from __future__ import annotations

from collections.abc import Callable

from shared.backends.anthropic import AnthropicBackend
from shared.backends.base import Backend
from shared.backends.mock import MockBackend
from shared.backends.ollama import OllamaBackend
from shared.backends.openai_compatible import OpenAICompatibleBackend
from shared.services.config import ServiceConfig
from shared.services.presets import ApiFormat


def _ollama(service: ServiceConfig, url: str, *, pool_size: int) -> Backend:
    return OllamaBackend(
        url, pool_size=pool_size, key=service.key, verify_cert=service.verify_cert, is_ours=service.local
    )


BUILDERS: dict[ApiFormat, Callable[..., Backend]] = {
    "ollama": _ollama,
    "openai": OpenAICompatibleBackend,
    "anthropic": AnthropicBackend,
    "mock": MockBackend,
}


def build(service: ServiceConfig, *, pool_size: int = 100) -> list[Backend]:
    """One backend for each of a service's URLs, in their order. Nothing is connected to yet; the caller closes them."""
    return [BUILDERS[service.api_format](service, url, pool_size=pool_size) for url in service.urls]
