"""`arriero health`: is every service alive and ready?"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import httpx
import typer
from rich.markup import escape

from arriero.cli.connection import Url, gateway_url, service_url, this_stack
from arriero.cli.daemons import LOOK_S
from arriero.cli.failures import EXIT_DEGRADED, EXIT_UNAVAILABLE
from arriero.cli.output import Json, console, print_json, print_table, status
from arriero.settings import StackSettings


@dataclass(frozen=True, slots=True)
class ServiceHealth:
    """`state`: ok, warn (answers, not ready) or down."""

    service: str
    url: str
    state: str
    detail: str


def health(as_json: Json = False, url: Url = "") -> None:
    """Ask every service whether it is ready. Exit status 0 if all are, 69 if one is down, 3 if one is not ready."""
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda item: probe(*item), service_urls(url).items()))
    if as_json:
        print_json({"services": [asdict(one) for one in found]})
    else:
        print_table(
            ("service", "state", "address", "detail"),
            [(one.service, status(one.state), one.url, escape(one.detail)) for one in found],
        )
    states = {one.state for one in found}
    if "down" in states:
        if not as_json:
            console().print("what is down can be started with: make run")
        raise typer.Exit(EXIT_UNAVAILABLE)
    if "warn" in states:
        raise typer.Exit(EXIT_DEGRADED)


def service_urls(given_gateway: str = "") -> dict[str, str]:
    """Addresses from the running `arriero up`, else from the settings."""
    settings = StackSettings()
    run = this_stack(settings)
    if run is not None and not given_gateway and not settings.arriero_url:
        return {name: address for name, address in run.urls.items() if name != "simulator"}
    return {
        "gateway": gateway_url(settings, given_gateway),
        "worker": service_url(settings, "worker"),
        "manager": service_url(settings, "manager", settings.arriero_manager_url),
        "monitor": service_url(settings, "monitor", settings.arriero_monitor_url),
    }


def probe(service: str, url: str) -> ServiceHealth:
    try:
        response = httpx.get(url + "/health/ready", timeout=LOOK_S, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        return ServiceHealth(service, url, "down", f"does not answer ({exc or type(exc).__name__})")
    detail = _detail(response)
    return ServiceHealth(service, url, "ok" if response.status_code == 200 else "warn", detail)


def _detail(response: httpx.Response) -> str:
    try:
        body = response.json()
    except ValueError:
        return f"HTTP {response.status_code}"
    services = body.get("services") if isinstance(body, dict) else None
    if isinstance(services, dict):
        return ", ".join(f"{name} {state}" for name, state in services.items())
    return str(body.get("status") or f"HTTP {response.status_code}") if isinstance(body, dict) else ""
