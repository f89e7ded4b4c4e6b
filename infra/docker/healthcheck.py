"""`python -m infra.docker.healthcheck [SERVICE]`: status 0 when the service in this container is alive.

Without a name it asks for the service that process 1 was started as. Only liveness: an orchestrator restarts what is
unhealthy, and must not restart a gateway because Redis is away. Imports little, since it runs every few seconds.
"""

from __future__ import annotations

import http.client
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 4.0


@dataclass(frozen=True, slots=True)
class Probe:
    """Where a service answers inside its container, unless its `<NAME>_PORT` says otherwise."""

    port: int
    path: str = "/health/live"


PROBES: Mapping[str, Probe] = {
    "gateway": Probe(8000),
    "worker": Probe(3008),
    "manager": Probe(3009),
    "monitor": Probe(3010),
    "infra.simulator": Probe(11434, "/api/version"),
}


def service_among(words: Sequence[str]) -> str | None:
    """The first word that is a service, as in `python -m worker`."""
    return next((word for word in words if word in PROBES), None)


def is_alive(service: str, environment: Mapping[str, str]) -> bool:
    probe = PROBES[service]
    port = int(environment.get(f"{service.upper()}_PORT") or probe.port)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", probe.path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main() -> int:
    words = sys.argv[1:] or Path("/proc/1/cmdline").read_text(encoding="utf-8", errors="replace").split("\0")
    service = service_among(words)
    if service is None:
        print(f"no service of Arriero runs here; known are {', '.join(PROBES)}", file=sys.stderr)
        return 1
    if not is_alive(service, os.environ):
        print(f"{service} does not answer", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
