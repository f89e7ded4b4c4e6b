"""`arriero up`: everything on this machine, on one terminal."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import typer

from arriero.cli.connection import stack_directory
from arriero.settings import StackSettings


def up(
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 2,
    smoke: Annotated[
        bool, typer.Option("--smoke/--no-smoke", help="Send one chat through the queue once all is up.")
    ] = True,
    exit_after_smoke: Annotated[
        bool, typer.Option(help="Stop again after the first chat, for scripts and CI.")
    ] = False,
    quiet: Annotated[bool, typer.Option(help="Do not show the services' logs.")] = False,
) -> None:
    """Start Redis, a simulator if no Ollama answers, and all services; prove it with one chat. Ctrl-C stops all."""
    from arriero.stack.session import UpOptions, run_stack
    from arriero.stack.terminal import Terminal

    # What comes into being, Redis' files and logs among it, holds prompts and answers: nobody else's business.
    os.umask(0o077)
    settings = StackSettings()
    options = UpOptions(workers=workers, smoke=smoke, exit_after_smoke=exit_after_smoke, quiet=quiet)
    terminal = Terminal(quiet=quiet)
    code = asyncio.run(run_stack(settings, options, stack_directory(settings), terminal, os.getpid()))
    raise typer.Exit(code)
