"""`arriero route`: where a request would go, and why."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from arriero.cli.connection import Url, client
from arriero.cli.output import Json, print_json


def route(
    model: Annotated[str, typer.Argument(help="A model, with or without its service; auto for that of the task.")],
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="What would be said to it.")] = "Hello",
    provider: Annotated[str, typer.Option("--provider", help="Service to ask, as in provider~model.")] = "",
    private: Annotated[bool, typer.Option("--private", help="The request says that it is private.")] = False,
    tools: Annotated[bool, typer.Option("--tools", help="The request offers a tool.")] = False,
    as_json: Json = False,
    url: Url = "",
) -> None:
    """Say where a request would go, and why. Nothing is sent to any model."""
    request: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": prompt}]}
    if provider:
        request["provider"] = provider
    if private:
        request["private"] = True
    if tools:
        request["tools"] = [{"type": "function", "function": {"name": "example", "parameters": {"type": "object"}}}]
    with client(url) as connected:
        decision = connected.request("POST", "/v1/route", {"type": "chat.completion", "request": request})
    if as_json:
        print_json(decision)
        return
    for place, candidate in enumerate(decision["candidates"], start=1):
        sys.stdout.write(f"{place}. {candidate['service']}~{candidate['model']}\n")
    private_too = "; private, so only machines of ours see it" if decision["local_only"] else ""
    sys.stdout.write(f"reason: {decision['reason']} ({decision['meaning'].rstrip('.')}){private_too}\n")
