"""`arriero chat`: one question through the queue, the answer as it comes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.status import Status

from arriero.cli.answer import Piece, PrintedAnswer
from arriero.cli.connection import Url, chat_model, client
from arriero.cli.failures import EXIT_INTERRUPTED, CommandFailed
from arriero.cli.output import Json, print_json, print_json_line
from arriero.errors import JobFailed
from arriero.models import Chunk, Ended, Event, Job, Queued, Restart, Started


def chat(
    prompt: Annotated[str, typer.Argument(help="What to ask; - reads it from standard input.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Default: ARRIERO_MODEL, else the first installed.")] = "",
    system: Annotated[str, typer.Option(help="System prompt.")] = "",
    stream: Annotated[bool, typer.Option("--stream/--no-stream", help="Print tokens as they come.")] = True,
    priority: Annotated[str, typer.Option(help="high, normal or low.")] = "normal",
    max_tokens: Annotated[int, typer.Option(min=0, help="Longest answer in tokens; 0: the model's own limit.")] = 0,
    as_json: Json = False,
    url: Url = "",
) -> None:
    """Ask a model, through the queue. With --json and --stream each event is one line."""
    text = sys.stdin.read() if prompt == "-" else prompt
    if not text.strip():
        raise typer.BadParameter("the prompt is empty", param_hint="PROMPT")
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": text})
    with client(url) as connected:
        request: dict[str, object] = {"model": chat_model(connected, model), "messages": messages}
        if max_tokens:
            request["max_tokens"] = max_tokens
        job = connected.enqueue("chat.completion", request, priority=priority)
        try:
            if stream:
                _show(connected.stream(job.id), as_json)
            else:
                _show_whole(connected.wait(job.id), as_json)
        except KeyboardInterrupt:
            # Nobody waits for it any more.
            connected.cancel(job.id)
            raise CommandFailed(f"interrupted; job {job.id} is cancelled", EXIT_INTERRUPTED) from None


def show_events(events: Iterator[Event]) -> None:
    """Tokens on stdout as they come; waiting and restarts on stderr, where they do not disturb a pipe."""
    notes = Console(stderr=True, highlight=False, emoji=False)
    answer = PrintedAnswer()

    def write(piece: Piece) -> None:
        if piece.anew:
            sys.stdout.write("\n")
            sys.stdout.flush()
            notes.print("(the worker was lost; the answer starts over, in other words)")
        sys.stdout.write(piece.text)
        sys.stdout.flush()

    waiting: Status | None = notes.status("waiting for a worker") if notes.is_terminal else None
    if waiting:
        waiting.start()
    try:
        for event in events:
            match event:
                case Queued():
                    if waiting:
                        waiting.update(f"waiting, position {event.position} in the queue")
                case Started():
                    if waiting:
                        waiting.update("a worker has it")
                case Chunk():
                    if waiting:
                        waiting.stop()
                    write(answer.add(event.text))
                case Restart():
                    answer.restarted()
                case Ended():
                    if waiting:
                        waiting.stop()
                    if event.job.succeeded:
                        write(answer.finish())
                    sys.stdout.write("\n")
                    if not event.job.succeeded:
                        raise JobFailed(event.job)
    finally:
        if waiting:
            waiting.stop()


def print_events(events: Iterator[Event]) -> None:
    """Each event as one line of JSON."""
    failed: Job | None = None
    for event in events:
        if isinstance(event, Ended):
            print_json_line({"event": "ended", "id": event.id, "job": event.job.raw})
            failed = None if event.job.succeeded else event.job
        else:
            print_json_line({"event": type(event).__name__.lower(), **asdict(event)})
    if failed:
        raise JobFailed(failed)


def _show(events: Iterator[Event], as_json: bool) -> None:
    (print_events if as_json else show_events)(events)


def _show_whole(job: Job, as_json: bool) -> None:
    if as_json:
        print_json(job.raw)
    if not job.succeeded:
        raise JobFailed(job)
    if not as_json:
        sys.stdout.write(job.text + "\n")
