"""Where the gateway is: the option, else the environment, else the running `arriero up`, else the default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from arriero.cli.failures import CommandFailed
from arriero.client import Client
from arriero.models_on_offer import first_chat_model, first_embedding_model
from arriero.settings import StackSettings, state_dir
from arriero.stack.runfile import RunFile, running_stack

Url = Annotated[
    str, typer.Option("--url", help="Gateway address; default: ARRIERO_URL, else the running `arriero up`.")
]


def stack_directory(settings: StackSettings) -> Path:
    return state_dir(settings.arriero_state_dir)


def this_stack(settings: StackSettings) -> RunFile | None:
    return running_stack(stack_directory(settings))


def gateway_url(settings: StackSettings, given: str = "") -> str:
    return service_url(settings, "gateway", given or settings.arriero_url)


def service_url(settings: StackSettings, service: str, chosen: str = "") -> str:
    """Where gateway, worker, manager or monitor is: as `chosen`, else by the running stack, else by settings."""
    if chosen:
        return chosen.rstrip("/")
    run = this_stack(settings)
    if run is not None and service in run.urls:
        return run.urls[service]
    host, port = getattr(settings, f"{service}_host"), getattr(settings, f"{service}_port")
    host = "127.0.0.1" if host in ("0.0.0.0", "::", "[::]") else host
    return (
        f"http://[{host}]:{port}" if ":" in host.strip("[]") and not host.startswith("[") else f"http://{host}:{port}"
    )


def client(given_url: str = "", timeout_s: float = 30.0) -> Client:
    settings = StackSettings()
    key = settings.arriero_api_key.get_secret_value()
    # One retry only: a person at a terminal wants to hear soon that nothing answers.
    return Client(gateway_url(settings, given_url), key or None, timeout_s, max_retries=1)


def chat_model(connected: Client, given: str) -> str:
    return _model(connected, given, embedding=False)


def embedding_model(connected: Client, given: str) -> str:
    return _model(connected, given, embedding=True)


def _model(connected: Client, given: str, *, embedding: bool) -> str:
    if given or (not embedding and StackSettings().arriero_model):
        return given or StackSettings().arriero_model
    listing = connected.request("GET", "/v1/models")
    found = first_embedding_model(listing) if embedding else first_chat_model(listing)
    if not found:
        wanted = "nomic-embed-text" if embedding else "llama3.2"
        raise CommandFailed(f"no fitting model is installed: `ollama pull {wanted}`, or name one with --model")
    return found
