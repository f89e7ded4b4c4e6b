"""`arriero dlq`: dead letters, straight in Redis, so that it works while the gateway is down."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.markup import escape

from arriero.cli.failures import EXIT_UNAVAILABLE, CommandFailed, status_of
from arriero.cli.output import (
    Json,
    Yes,
    clock,
    confirm,
    console,
    counting,
    print_json,
    print_next_page,
    print_table,
    seconds,
)
from shared.plurals import counted

if TYPE_CHECKING:
    from shared.jobs import Attempt, JobRecord
    from shared.queue.dead_letters import DeadLetterFilter, DeadLetters

T = TypeVar("T")

app = typer.Typer(help="Dead letters: jobs that failed for good. Works without the gateway.", no_args_is_help=True)

OF_REASON = "Only those that ended with this error code, e.g. backend_unreachable."
OF_MODEL = "Only those that asked for this model."
Reason = Annotated[str, typer.Option("--reason", help=OF_REASON)]
Model = Annotated[str, typer.Option("--model", "--of-model", help=OF_MODEL)]
Tenant = Annotated[str, typer.Option("--tenant", help="Only this tenant's.")]
Since = Annotated[str, typer.Option("--since", metavar="2h", help="Only those that ended so long ago or later.")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="A dead letter's id.")]
OneOrNone = Annotated[str, typer.Argument(metavar="[JOB]", help="A dead letter's id.", show_default=False)]
_RATE = re.compile(r"(\d+(?:\.\d+)?)(?:/(s|min|h))?")
_SECONDS_IN = {"s": 1.0, "min": 60.0, "h": 3600.0}


@app.command("list")
def list_(
    reason: Reason = "",
    model: Model = "",
    tenant: Tenant = "",
    since: Since = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Dead letters on one page.")] = 20,
    cursor: Annotated[str, typer.Option(help="Go on where an earlier page ended.")] = "",
    as_json: Json = False,
) -> None:
    """Dead letters, newest first."""
    from shared.wire.dead_letters import dead_letter_body

    wanted = _filter(reason, model, tenant, since)
    page = _on_queue(lambda letters: letters.list(wanted, cursor=cursor, limit=limit))
    if as_json:
        bodies = [dead_letter_body(job) for job in page.jobs]
        print_json({"dead_letters": bodies, "next_cursor": page.next_cursor})
        return
    print_table(
        ("job", "ended", "reason", "model", "tenant", "attempts", "replayed as"), [_row(job) for job in page.jobs]
    )
    chosen = {"--reason": reason, "--model": model, "--tenant": tenant, "--since": since, "--limit": str(limit)}
    print_next_page("arriero dlq list", page.next_cursor, chosen)
    if not page.jobs and not page.next_cursor:
        console().print("no dead letters")


@app.command()
def show(
    job_id: JobId,
    content: Annotated[bool, typer.Option("--content", help="With the request's texts, which may be private.")] = False,
    as_json: Json = False,
) -> None:
    """One dead letter: why it failed, each try, and its request; texts as their lengths unless --content."""
    from shared.wire.dead_letters import dead_letter_body

    found = _on_queue(lambda letters: letters.show(job_id, content=content))
    if as_json:
        print_json({**dead_letter_body(found.job), "request": found.request})
        return
    job = found.job
    message = job.error.message if job.error else ""
    rows = [
        ("job", job.id),
        ("reason", f"[red]{escape(job.dead_letter_reason)}[/]"),
        ("message", escape(message)),
        ("kind", job.kind),
        ("model", escape(job.model)),
        ("tenant", escape(job.tenant)),
        ("created", clock(job.created_at)),
        ("ended", clock(job.ended_at or 0)),
        ("failures", str(job.failures)),
        ("crashes", str(job.crashes)),
        ("replay of", job.replay_of or "-"),
        ("replayed as", job.replayed_as or "-"),
        *(("metadata", escape(f"{name}={value}")) for name, value in job.metadata.items()),
    ]
    print_table(("", ""), rows)
    print_table(("attempt", "worker", "backend", "model", "seconds", "outcome", "error"), map(_attempt, job.attempts))
    request = "gone" if found.request is None else json.dumps(found.request, indent=2, ensure_ascii=False, default=str)
    console().print(f"\nrequest: {escape(request)}")


@app.command()
def replay(
    job_id: OneOrNone = "",
    on_model: Annotated[str, typer.Option("--model", help="Run on another model than was asked for.")] = "",
    rate: Annotated[str, typer.Option("--rate", metavar="5/s", help="How many start, e.g. 5/s or 30/min.")] = "",
    reason: Reason = "",
    of_model: Annotated[str, typer.Option("--of-model", help=OF_MODEL)] = "",
    tenant: Tenant = "",
    since: Since = "",
    every: Annotated[bool, typer.Option("--all", help="Every dead letter.")] = False,
    most: Annotated[int, typer.Option("--most", min=1, max=10_000, help="At most so many, the newest first.")] = 1000,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Run one dead letter, or all that match, again as new jobs. Each can be replayed once."""
    from shared.wire.dead_letters import replayed_body, replayed_many_body

    wanted = _filter(reason, of_model, tenant, since)
    _require_choice(job_id, wanted, every)
    per_second = _rate(rate)
    if job_id:
        done = _on_queue(lambda letters: letters.replay(job_id, model=on_model))
        if as_json:
            print_json(replayed_body(done))
        else:
            console().print(f"{job_id} {'was replayed before' if done.before else 'runs again'} as {done.id}")
        return
    confirm(f"Replay {_words(wanted)}?", yes)
    with counting("replaying") as on_progress:
        outcome = _on_queue(
            lambda letters: letters.replay_matching(
                wanted, per_second=per_second, model=on_model, most=most, on_progress=on_progress
            )
        )
    if as_json:
        print_json(replayed_many_body(outcome))
    else:
        pace = f", the last one in {seconds(len(outcome.replayed) / per_second)}" if per_second else ""
        console().print(f"replayed {counted(len(outcome.replayed), 'job')}{pace}")
        if outcome.without_payload:
            console().print(f"left out {outcome.without_payload} whose requests are gone or cannot be read")
    if outcome.refused is not None:
        raise CommandFailed(f"the rest was not replayed: {outcome.refused.message}", EXIT_UNAVAILABLE)


@app.command()
def purge(
    job_id: OneOrNone = "",
    reason: Reason = "",
    model: Model = "",
    tenant: Tenant = "",
    since: Since = "",
    every: Annotated[bool, typer.Option("--all", help="Every dead letter.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Forget one dead letter, or all that match, for good: request, history and record."""
    wanted = _filter(reason, model, tenant, since)
    _require_choice(job_id, wanted, every)
    confirm(f"Forget {job_id or _words(wanted)} for good?", yes)
    if job_id:
        purged = int(_on_queue(lambda letters: letters.purge(job_id)))
        if not purged:
            raise CommandFailed(f"there is no dead letter {job_id}: `arriero dlq list` shows them")
    else:
        purged = _on_queue(lambda letters: letters.purge_matching(wanted))
    if as_json:
        print_json({"purged": purged})
    else:
        console().print(f"purged {counted(purged, 'dead letter')}")


def _on_queue(act: Callable[[DeadLetters], Awaitable[T]]) -> T:
    """What `act` gives, on the queue in Redis. Raises CommandFailed with what a refusal says."""
    from arriero.cli import redis_access
    from shared.errors import ArrieroError, QueueUnavailable

    async def run() -> T:
        async with redis_access.queue() as queue:
            try:
                return await act(queue.dead_letters)
            except QueueUnavailable:
                raise
            except ArrieroError as exc:
                raise CommandFailed(exc.message, status_of(exc.http_status, exc.code)) from exc

    return asyncio.run(run())


def _filter(reason: str, model: str, tenant: str, since: str) -> DeadLetterFilter:
    from shared.queue.dead_letters import DeadLetterFilter
    from shared.settings import parse_duration_s

    at = 0.0
    if since:
        try:
            at = time.time() - float(parse_duration_s(since))
        except ValueError as exc:
            raise typer.BadParameter("expected how long ago, such as 30m, 2h or 7d", param_hint="--since") from exc
    return DeadLetterFilter(reason=reason, model=model, tenant=tenant, since=at)


def _require_choice(job_id: str, wanted: DeadLetterFilter, every: bool) -> None:
    if (bool(job_id), not wanted.is_empty, every).count(True) != 1:
        raise typer.BadParameter("name one dead letter, or give a filter (--reason, --tenant, ...), or --all")


def _rate(text: str) -> float:
    """Jobs a second from `5`, `5/s`, `30/min`; 0: no limit."""
    if not text:
        return 0.0
    found = _RATE.fullmatch(text)
    if found is None or not float(found[1]):
        raise typer.BadParameter("expected jobs per time, such as 5/s, 30/min or 100/h", param_hint="--rate")
    return float(found[1]) / _SECONDS_IN[found[2] or "s"]


def _words(wanted: DeadLetterFilter) -> str:
    if wanted.is_empty:
        return "every dead letter"
    named = (("reason", wanted.reason), ("model", wanted.model), ("tenant", wanted.tenant))
    parts = [f"{name} {value}" for name, value in named if value]
    parts += [f"ended since {clock(wanted.since)}"] if wanted.since else []
    return f"the dead letters with {', '.join(parts)}"


def _row(job: JobRecord) -> tuple[str, ...]:
    texts = (escape(job.dead_letter_reason), escape(job.model), escape(job.tenant))
    return (job.id, clock(job.ended_at or 0), *texts, str(len(job.attempts)), job.replayed_as or "-")


def _attempt(attempt: Attempt) -> tuple[str, ...]:
    took = seconds(attempt.ended_at - attempt.started_at) if attempt.ended_at else "-"
    names = (attempt.worker, attempt.backend or "-", attempt.model or "-")
    error = f"{attempt.error.code}: {attempt.error.message}" if attempt.error else "-"
    return (str(attempt.number), *map(escape, names), took, attempt.outcome or "running", escape(error))
