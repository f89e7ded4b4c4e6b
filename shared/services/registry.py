"""The services in force: those of the settings and those registered at run time, less what cannot be used here.

Left out are services that are switched off, cloud services without a key, and in airgap mode every cloud service. So
whoever asks the registry cannot reach one by mistake.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from shared.services.config import ServiceConfig
from shared.services.presets import PRESETS

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Off:
    """A configured service that is not in force. `reason` is a sentence that says what would change that."""

    name: str
    reason: str


def why_off(service: ServiceConfig, *, airgap: bool) -> str:
    """Why a service cannot be used; empty if it can."""
    if not service.enabled:
        return f"The service {service.name} is switched off (enabled: false)."
    if service.local:
        return ""
    if airgap:
        return f"The service {service.name} is off: AIRGAP_MODE allows no cloud service."
    if not service.key and service.known.is_local:
        return (
            f"The service {service.name} is off: its address may be anybody's. Say `local: true` if its machines are "
            "ours, else give it a key."
        )
    if not service.key:
        source = f"{service.api_key_env_var}" if service.api_key_env_var else "api_key_env_var of the service"
        return f"The service {service.name} is off: it has no API key. Set {source}, or switch the service off."
    return ""


class Registry:
    """Asked for every job, so every question is a look into a dict. `version` changes with the set of services."""

    def __init__(self, configured: Iterable[ServiceConfig], *, default: str = "ollama", airgap: bool = False) -> None:
        self._configured = {service.name: service for service in configured}
        self._configured_default = default
        self._airgap = airgap
        self._services: dict[str, ServiceConfig] = {}
        self.version = 0
        self.take({}, "")

    def take(self, registered: Mapping[str, ServiceConfig], default: str) -> None:
        """Take over what was registered at run time, in place of what was before. A configured service keeps its name.

        `default`: the default service chosen at run time; empty: the configured one.
        """
        known = dict(registered) | self._configured
        # The configured ones first: they keep the host names they have, whatever comes and goes.
        ordered = [
            *self._configured.values(),
            *(known[name] for name in sorted(known.keys() - self._configured.keys())),
        ]
        reasons = {service.name: why_off(service, airgap=self._airgap) for service in ordered}
        in_force = {service.name: service for service in ordered if not reasons[service.name]}
        if in_force != self._services:
            self.version += 1
        self._services = in_force
        self.off = tuple(Off(name, reason) for name, reason in reasons.items() if reason)
        self.preferred = default or self._configured_default
        self.default_service = self._first(self.preferred)

    def _first(self, preferred: str) -> str:
        """The service that a bare name is at. `auto`, or one that is not in force: ours before the cloud's."""
        if preferred in self._services:
            return preferred
        return next((service.name for service in (*self.local(), *self.all())), preferred)

    @property
    def reasons_off(self) -> dict[str, str]:
        """Why a service is not in force, by name: those of `off`, and those that a key alone would bring."""
        keyless = {
            name: f"The service {name} is off: set {preset.key_variable}."
            for name, preset in PRESETS.items()
            if preset.key_variable
        }
        return keyless | {off.name: off.reason for off in self.off}

    def get(self, name: str) -> ServiceConfig | None:
        """The service in force of that name."""
        return self._services.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self._services

    def all(self) -> tuple[ServiceConfig, ...]:
        """Every service in force, the configured ones first."""
        return tuple(self._services.values())

    def local(self) -> tuple[ServiceConfig, ...]:
        """Those whose machines are ours."""
        return tuple(service for service in self._services.values() if service.local)

    @property
    def summary(self) -> dict[str, object]:
        """For the log of a process that starts: what is ours, what is somebody else's, where bare names are."""
        clouds = [service.name for service in self._services.values() if not service.local]
        return {"ours": [service.name for service in self.local()], "cloud": clouds, "default": self.default_service}

    def is_configured(self, name: str) -> bool:
        """Whether the settings name it, in force or not: such a name cannot be registered."""
        return name in self._configured
