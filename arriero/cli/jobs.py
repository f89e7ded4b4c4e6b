"""`arriero jobs`: list, show, cancel, watch, submit."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from arriero.cli.chat import print_events, show_events
from arriero.cli.connection import Url, client
from arriero.cli.output import Json, clock, console, print_json, print_next_page, print_table, seconds, status
from arriero.models import Job

app = typer.Typer(help="Jobs: what was asked, how far it is, what came of it.", no_args_is_help=True)
JobId = Annotated[str, typer.Argument(metavar="JOB", help="A job's id.")]


@app.command("list")
def list_jobs(
    status_: Annotated[str, typer.Option("--status", help="queued, running, succeeded, ...")] = "",
    model: Annotated[str, typer.Option(help="Only jobs for this model.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100, help="Jobs on one page.")] = 20,
    cursor: Annotated[str, typer.Option(help="Go on where an earlier page ended.")] = "",
    as_json: Json = False,
    url: Url = "",
) -> None:
    """Jobs, newest first."""
    with client(url) as connected:
        page = connected.list(status=status_ or None, model=model or None, cursor=cursor, limit=limit)
    if as_json:
        print_json({"jobs": [job.raw for job in page.jobs], "next_cursor": page.next_cursor})
        return
    rows = [
        (job.id, status(job.status), job.type, job.model, job.priority, clock(job.created_at), str(len(job.attempts)))
        for job in page.jobs
    ]
    print_table(("job", "status", "type", "model", "priority", "created", "attempts"), rows)
    chosen = {"--status": status_, "--model": model, "--limit": str(limit), "--url": url}
    print_next_page("arriero jobs list", page.next_cursor, chosen)


@app.command()
def show(job_id: JobId, as_json: Json = False, url: Url = "") -> None:
    """One job with its attempts and its answer."""
    with client(url) as connected:
        job = connected.get(job_id)
    if as_json:
        print_json(job.raw)
        return
    rows = [
        ("job", job.id),
        ("status", status(job.status)),
        ("type", job.type),
        ("model", escape(job.model)),
        ("priority", job.priority),
        ("created", clock(job.created_at)),
    ]
    if job.position is not None:
        rows.append(("queue", f"position {job.position}, expected wait {seconds(job.expected_wait_s)}"))
    if job.waits_for:
        rows.append(("waits for", escape(job.waits_for.removeprefix("waiting_for_").replace("_", " "))))
    rows += [("metadata", escape(f"{name}={value}")) for name, value in job.metadata.items()]
    if job.error:
        rows.append(("error", escape(f"{job.error.code}: {job.error.message}")))
    if job.text:
        rows.append(("answer", escape(job.text)))
    print_table(("", ""), rows)
    if job.attempts:
        print_table(
            ("attempt", "worker", "backend", "model", "seconds", "outcome"), [_attempt(a) for a in job.attempts]
        )


@app.command()
def cancel(job_id: JobId, as_json: Json = False, url: Url = "") -> None:
    """Cancel a job: a waiting one at once, a running one within 2 s."""
    with client(url) as connected:
        job = connected.cancel(job_id)
    if as_json:
        print_json(job.raw)
    else:
        console().print(_cancel_words(job))


@app.command()
def watch(
    job_id: JobId,
    last_event_id: Annotated[str, typer.Option(help="Go on after this event.")] = "",
    as_json: Json = False,
    url: Url = "",
) -> None:
    """Follow a job to its end, from its beginning on. With --json each event is one line."""
    with client(url) as connected:
        events = connected.stream(job_id, last_event_id)
        (print_events if as_json else show_events)(events)


@app.command()
def submit(
    file: Annotated[str, typer.Argument(help="JSON of the request, as for the OpenAI API; - reads standard input.")],
    type_: Annotated[str, typer.Option("--type", help="chat.completion, completion or embedding.")] = "chat.completion",
    priority: Annotated[str, typer.Option(help="high, normal or low.")] = "normal",
    delay: Annotated[float, typer.Option(min=0, help="Seconds to wait before it may run.")] = 0.0,
    deadline: Annotated[
        float, typer.Option(min=0, help="Seconds after which it is not worth running; 0: default.")
    ] = 0.0,
    idempotency_key: Annotated[str, typer.Option(help="The same key makes one job, however often it is sent.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end and print the job.")] = False,
    as_json: Json = False,
    url: Url = "",
) -> None:
    """Submit a job and print its id."""
    request = _read_request(file)
    with client(url) as connected:
        job = connected.enqueue(
            type_,
            request,
            priority=priority,
            delay_seconds=delay,
            deadline_seconds=deadline or None,
            idempotency_key=idempotency_key or None,
        )
        if wait:
            job = connected.wait(job.id)
    if as_json:
        print_json(job.raw)
    else:
        sys.stdout.write(job.id + "\n")
    if wait and not job.succeeded:
        raise typer.Exit(1)


def _read_request(file: str) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
        request = json.loads(text)
    except OSError as exc:
        raise typer.BadParameter(f"cannot read {file}: {exc.strerror}", param_hint="FILE") from exc
    except ValueError as exc:
        raise typer.BadParameter(f"{file} is not JSON: {exc}", param_hint="FILE") from exc
    if not isinstance(request, dict):
        raise typer.BadParameter('expected a JSON object such as {"model": ..., "messages": [...]}', param_hint="FILE")
    return request


def _attempt(attempt: Any) -> tuple[str, ...]:
    started, ended = attempt.get("started_at"), attempt.get("ended_at")
    error = attempt.get("error") or {}
    outcome = str(attempt.get("outcome") or "running") + (f" ({error.get('code')})" if error else "")
    names = ("number", "worker", "backend", "model")
    took = seconds(ended - started) if started and ended else "-"
    return (*(escape(str(attempt.get(name) or "-")) for name in names), took, escape(outcome))


def _cancel_words(job: Job) -> str:
    if job.status == "running":
        return f"{job.id} is running and will stop within 2 s"
    return f"{job.id} is {job.status}"
