"""Dead letters over HTTP: looking (operators), running again and forgetting (admins)."""

from __future__ import annotations

from typing import Annotated, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from gateway.answers import json_response
from gateway.body import read_json
from gateway.request import GatewayRequest
from gateway.route_table import Role, Route
from gateway.routes.jobs import job_id_of
from shared.errors import BadRequest, DeadLetterNotFound, Forbidden, JobNotFound
from shared.queue.dead_letters import CURSOR_PATTERN, MOST_AT_ONCE, DeadLetterFilter, DeadLetters
from shared.telemetry.logging import logger
from shared.wire.dead_letters import dead_letter_body, replayed_body, replayed_many_body
from shared.wire.openai import validate
from shared.wire.openai_fields import WHOLE, ModelName

log = logger("admin")

MAX_PAGE = 100
PATH = "/admin/dead-letters"
Text = Annotated[str, Field(min_length=1, max_length=255)]


class DeadLetterMatch(BaseModel):
    """Which dead letters are meant: those that match all that is given."""

    # A misspelt filter must not mean all of them.
    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"minProperties": 1})

    reason: Text = Field("", description="Code of the error that ended them, e.g. backend_unreachable.")
    model: Text = Field("", description="The model they asked for.")
    tenant: Text = Field("", description="Whose they are.")
    since: float = Field(0, ge=0, allow_inf_nan=False, description="Ended at or after this Unix time, seconds.")

    def chosen(self) -> DeadLetterFilter:
        return DeadLetterFilter(reason=self.reason, model=self.model, tenant=self.tenant, since=self.since)


Match = Annotated[
    Annotated[Literal["all"], Tag("~all")] | Annotated[DeadLetterMatch, Tag("~match")],
    Discriminator(lambda value: "~match" if isinstance(value, dict | BaseModel) else "~all"),
    Field(description="`all`, or what they have in common."),
]


class DeadLetterQuery(DeadLetterMatch):
    """Query of GET /admin/dead-letters."""

    model_config = ConfigDict(strict=False, json_schema_extra={})

    cursor: str = Field("", pattern=f"^({CURSOR_PATTERN})?$", description="`next_cursor` of the page before.")
    limit: int = Field(20, ge=1, le=MAX_PAGE, description="Most dead letters on a page.")


class ShowQuery(BaseModel):
    """Query of GET /admin/dead-letters/{job_id}."""

    model_config = ConfigDict(extra="forbid")

    content: bool = Field(False, description="With the request's texts; needs the role admin.")


class DeadLetterReplay(BaseModel):
    """How to run one dead letter again."""

    # A misspelt `on_model` must not use up the one replay.
    model_config = ConfigDict(extra="forbid", strict=True)

    on_model: ModelName | None = Field(None, description="Another model than it asked for.")


class DeadLetterReplays(DeadLetterReplay):
    """Which dead letters to run again, how, and how fast. Those replayed before are left out."""

    match: Match
    per_second: float = Field(
        0, ge=0, le=1000, allow_inf_nan=False, description="How many start each second; 0: all at once."
    )
    most: Annotated[int, Field(ge=1, le=MOST_AT_ONCE, description="Most to replay; the newest come first."), WHOLE] = (
        1000
    )


class DeadLetterPurge(BaseModel):
    """Which dead letters to forget for good."""

    model_config = ConfigDict(extra="forbid", strict=True)

    match: Match


def _dead_letters(request: GatewayRequest) -> DeadLetters:
    return request.services.queue.dead_letters


def _id_of(request: GatewayRequest) -> str:
    try:
        return job_id_of(request)
    except JobNotFound:
        raise DeadLetterNotFound() from None


def _chosen(match: Literal["all"] | DeadLetterMatch) -> DeadLetterFilter:
    if match == "all":
        return DeadLetterFilter()
    if not match.model_fields_set:
        raise BadRequest('`match`: give reason, model, tenant or since, or say "all".', param="match")
    return match.chosen()


async def list_dead_letters(request: GatewayRequest) -> web.Response:
    query = validate(DeadLetterQuery, dict(request.query))
    page = await _dead_letters(request).list(query.chosen(), cursor=query.cursor, limit=query.limit)
    return json_response(
        {
            "object": "list",
            "data": [dead_letter_body(job) for job in page.jobs],
            "has_more": bool(page.next_cursor),
            "next_cursor": page.next_cursor,
        }
    )


async def show(request: GatewayRequest) -> web.Response:
    query = validate(ShowQuery, dict(request.query))
    caller = request.caller
    if query.content and not caller.role.allows(Role.ADMIN):
        raise Forbidden("The texts of other people's requests need a key with the role admin. Leave `content` out.")
    found = await _dead_letters(request).show(_id_of(request), content=query.content)
    if query.content:
        log.warning("admin.dead_letter_read", job_id=found.job.id, key_id=caller.key_id)
    return json_response({**dead_letter_body(found.job), "request": found.request})


async def replay(request: GatewayRequest) -> web.Response:
    wanted = validate(DeadLetterReplay, await read_json(request))
    replayed = await _dead_letters(request).replay(
        _id_of(request), model=wanted.on_model or "", request_id=request.request_id
    )
    log.warning(
        "admin.dead_letter_replayed",
        job_id=replayed.replay_of,
        replayed_as=replayed.id,
        before=replayed.before,
        key_id=request.caller.key_id,
    )
    return json_response(replayed_body(replayed))


async def replay_many(request: GatewayRequest) -> web.Response:
    wanted = validate(DeadLetterReplays, await read_json(request))
    outcome = await _dead_letters(request).replay_matching(
        _chosen(wanted.match),
        per_second=wanted.per_second,
        model=wanted.on_model or "",
        most=wanted.most,
        request_id=request.request_id,
    )
    log.warning("admin.dead_letters_replayed", jobs=len(outcome.replayed), key_id=request.caller.key_id)
    return json_response(replayed_many_body(outcome))


async def purge(request: GatewayRequest) -> web.Response:
    job_id = _id_of(request)
    if not await _dead_letters(request).purge(job_id):
        raise DeadLetterNotFound()
    log.warning("admin.dead_letter_purged", job_id=job_id, key_id=request.caller.key_id)
    return json_response({"object": "dead_letters.purged", "purged": 1})


async def purge_many(request: GatewayRequest) -> web.Response:
    wanted = validate(DeadLetterPurge, await read_json(request))
    purged = await _dead_letters(request).purge_matching(_chosen(wanted.match))
    log.warning("admin.dead_letters_purged", jobs=purged, key_id=request.caller.key_id)
    return json_response({"object": "dead_letters.purged", "purged": purged})


ROUTES = [
    Route(
        method="GET",
        path=PATH,
        handler=list_dead_letters,
        role=Role.OPERATOR,
        summary="Jobs that failed for good, newest first",
        description="A filtered page may be short and still have a cursor.",
        tag="Dead letters",
        query=DeadLetterQuery,
        answers={200: "DeadLetterList"},
        errors=(503,),
    ),
    Route(
        method="GET",
        path=PATH + "/{job_id}",
        handler=show,
        role=Role.OPERATOR,
        summary="One dead letter with the history of its errors and its request",
        tag="Dead letters",
        query=ShowQuery,
        answers={200: "DeadLetterDetail"},
        errors=(404, 503),
    ),
    Route(
        method="POST",
        path=PATH + "/{job_id}/replay",
        handler=replay,
        role=Role.ADMIN,
        summary="Run a dead letter again, as a new job of its tenant",
        description="A dead letter is replayed once; a repetition gets the first one's job.",
        tag="Dead letters",
        body=DeadLetterReplay,
        answers={200: "DeadLetterReplayed"},
        errors=(404, 429, 503),
    ),
    Route(
        method="POST",
        path=PATH + ":replay",
        handler=replay_many,
        role=Role.ADMIN,
        summary="Run again all dead letters that match",
        description="The queue keeps the pace: with `per_second` the later ones are scheduled.",
        tag="Dead letters",
        body=DeadLetterReplays,
        answers={200: "DeadLettersReplayed"},
        errors=(503,),
    ),
    Route(
        method="DELETE",
        path=PATH + "/{job_id}",
        handler=purge,
        role=Role.ADMIN,
        summary="Forget a dead letter, its request and its record",
        tag="Dead letters",
        answers={200: "DeadLettersPurged"},
        errors=(404, 503),
    ),
    Route(
        method="POST",
        path=PATH + ":purge",
        handler=purge_many,
        role=Role.ADMIN,
        summary="Forget all dead letters that match",
        tag="Dead letters",
        body=DeadLetterPurge,
        answers={200: "DeadLettersPurged"},
        errors=(503,),
    ),
]
