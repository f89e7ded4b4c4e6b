"""The API description, OpenAPI 3.1, from the route table and the models it names. Pure.

Nothing is described by hand that the running gateway could contradict: paths, roles, bodies and statuses come from the
routes that are served, schemas from the models that check requests and the ones that tests hold answers to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.openapi_answers import ANSWERS
from gateway.route_table import Role, Route, error_form

Document = dict[str, Any]

REF = "#/components/schemas/{model}"
JSON = "application/json"
BODY_ERRORS = (400, 408, 413, 415)
NO_BODY_ERRORS = (408, 413)
"""Of routes that read a body only to refuse it."""
KEY_ERRORS = (401, 403)
EVERY_ROUTE_ERRORS = (400, 429, 500, 503)
"""400 and 429 as well: a malformed header line, or a caller over the limit, is refused before any handler."""

_PATH_PARAMETER = re.compile(r"\{(\w+)(?::([^{}]*))?\}")
_PARAMETER_TEXTS = {
    "batch_id": "A batch's id, `batch_...`.",
    "file_id": "A file's id, `file-...`.",
    "job_id": "A job's id, `job_...`.",
    "model": "A model's name, such as `llama3.2:3b`.",
    "model_job_id": "Id of a change to a model, `op_...`.",
    "provider": "A service's name, such as `ollama`.",
    "service": "A service's name, such as `ollama`.",
}
_HEADER_TEXTS = {
    "idempotency-key": "A request repeated under the same key is done once; the repetition gets the first one's job.",
    "cache-control": "`no-store` keeps no copy of the answer, and takes none. `max-age=60` takes an earlier answer to "
    "the same request, up to 60 seconds old; `no-cache` takes none.",
    "x-arriero-cache": "`use`: an earlier answer to the same request will do.",
    "prefer": "`respond-async` answers 202 with the job at once.",
    "last-event-id": "The id of the last event received; the stream goes on after it.",
    "anthropic-version": "Taken, and without effect: the requests of every version are understood.",
    "x-request-id": "An id of yours for this request; it is logged and sent back.",
    "x-arriero-private": "`true`: the request must not leave machines of ours.",
    "x-arriero-provider": "The service to ask, as in `provider~model`; `auto`: any.",
    "x-arriero-deadline-seconds": "How long the answer is worth waiting for, in seconds.",
    "x-stainless-read-timeout": "The OpenAI clients' own timeout in seconds; taken as the deadline of "
    "an answer that comes in one piece to a client that waits for it.",
}
_MEDIA_SCHEMAS: dict[str, Document] = {
    JSON: {"type": "object"},
    # Tools take it for the schema of one event; the route's description tells what those are.
    "text/event-stream": {},
}
_ANSWER_HEADERS: Document = {
    "x-request-id": {"description": "Names this request in the logs.", "schema": {"type": "string"}},
    "x-arriero-job-id": {"description": "The job behind the answer: GET /v1/jobs/{id}.", "schema": {"type": "string"}},
    "x-arriero-service": {"description": "The service that answered.", "schema": {"type": "string"}},
    "x-arriero-model": {"description": "The model that answered.", "schema": {"type": "string"}},
    "x-arriero-route": {
        "description": "Where the job may run first, and why: `service~model; reason=word`.",
        "schema": {"type": "string"},
    },
    "x-arriero-fallback": {"description": "`asked->used`, if another model stood in.", "schema": {"type": "string"}},
    "x-cache": {
        "description": "`hit`: an earlier answer to the same request, `Age` seconds old. `miss`: a new one, though one "
        "like that would have done. `stale`: an earlier one, since nothing could answer anew.",
        "schema": {"type": "string"},
    },
    "Location": {"description": "Where the job is.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds to wait before the next try.", "schema": {"type": "integer", "minimum": 0}},
}


def document(
    routes: Sequence[Route], *, version: str, keys_required: bool, more_answers: Iterable[type[BaseModel]] = ()
) -> Document:
    """The whole description. `more_answers` are answer models that routes name beyond `openapi_answers.ANSWERS`.

    Raises ValueError for a route that names an unknown schema or repeats another's method and path.
    """
    answers = (*ANSWERS, *more_answers)
    names = {model.__name__ for model in answers}
    paths: dict[str, Document] = {}
    for route in routes:
        operations = paths.setdefault(_PATH_PARAMETER.sub(r"{\1}", route.path), {})
        method = route.method.lower()
        if method in operations:
            raise ValueError(f"{route.method} {route.path} is in the route table twice")
        operations[method] = _operation(route, names, keys_required=keys_required)
    bodies = {route.body for route in routes if route.body is not None}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Arriero",
            "version": version,
            "description": "A durable queue between backend services and the machines that run their language models.",
        },
        "paths": paths,
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
        "components": {
            "schemas": _schemas(bodies, answers),
            "headers": _ANSWER_HEADERS,
            "securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer", "description": "An Arriero API key."}},
        },
    }


def _schemas(bodies: Iterable[type[BaseModel]], answers: Iterable[type[BaseModel]]) -> Document:
    # Two calls: a body is described as it is read, an answer as it is written, where no field is left out.
    _, read = models_json_schema(
        [(body, "validation") for body in sorted(bodies, key=lambda body: body.__name__)], ref_template=REF
    )
    _, written = models_json_schema([(answer, "serialization") for answer in answers], ref_template=REF)
    schemas: Document = dict(read.get("$defs", {}))
    for name, schema in written.get("$defs", {}).items():
        if schemas.setdefault(name, schema) != schema:
            raise ValueError(f"two schemas are called {name}: rename one of the models")
    return dict(sorted(schemas.items()))


def _operation(route: Route, names: set[str], *, keys_required: bool) -> Document:
    answers = {str(status): _answer(route, status, content, names) for status, content in sorted(route.answers.items())}
    operation: Document = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "tags": [route.tag],
        "x-role": str(route.role),
        "responses": {**answers, **{str(status): _error(route, status) for status in _errors(route)}},
    }
    if route.description:
        operation["description"] = route.description
    if parameters := [*_path_parameters(route), *_query_parameters(route), *_header_parameters(route)]:
        operation["parameters"] = parameters
    if route.body is not None:
        schema = {"$ref": REF.format(model=route.body.__name__)}
        operation["requestBody"] = {"required": True, "content": {route.body_type: {"schema": schema}}}
    if route.role is not Role.PUBLIC:
        operation["security"] = [{"apiKey": []}] if keys_required else [{}, {"apiKey": []}]
    return operation


def _operation_id(route: Route) -> str:
    return "_".join([route.method.lower(), *re.findall(r"[A-Za-z0-9]+", _PATH_PARAMETER.sub(r"by_\1", route.path))])


def _errors(route: Route) -> list[int]:
    statuses = {*EVERY_ROUTE_ERRORS, *route.errors}
    if route.role is not Role.PUBLIC:
        statuses.update(KEY_ERRORS)
    if route.body is not None:
        statuses.update(BODY_ERRORS)
    if route.refuses_bodies:
        statuses.update(NO_BODY_ERRORS)
    if _PATH_PARAMETER.search(route.path):
        statuses.add(404)
    return sorted(statuses - route.answers.keys())


def _error(route: Route, status: int) -> Document:
    answer: Document = {
        "description": HTTPStatus(status).phrase,
        "headers": _headers("x-request-id"),
        "content": {JSON: {"schema": {"$ref": REF.format(model=error_form(route.path))}}},
    }
    if status in (429, 503):
        answer["headers"] |= _headers("Retry-After")
    return answer


def _answer(route: Route, status: int, content: str, names: set[str]) -> Document:
    answer: Document = {"description": HTTPStatus(status).phrase, "headers": _headers("x-request-id")}
    if route.role is Role.INFERENCE and route.method == "POST":
        answer["headers"] |= _headers("x-arriero-job-id")
    if status in (201, 202):
        answer["headers"] |= _headers("Location")
    media: Document = {}
    for part in filter(None, (part.strip() for part in content.split("|"))):
        if "/" in part:
            media[part] = {"schema": _MEDIA_SCHEMAS.get(part, {"type": "string"})}
        elif part in names:
            media[JSON] = {"schema": {"$ref": REF.format(model=part)}}
        else:
            raise ValueError(f"{route.method} {route.path}: no answer schema is called {part}")
    if media:
        answer["content"] = media
    return answer


def _headers(*names: str) -> Document:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _path_parameters(route: Route) -> Iterable[Document]:
    for match in _PATH_PARAMETER.finditer(route.path):
        name, pattern = match.groups()
        schema: Document = {"type": "string", "minLength": 1}
        if pattern and pattern != ".+":
            schema["pattern"] = f"^{pattern}$"
        yield _parameter(name, "path", schema, required=True, description=_PARAMETER_TEXTS.get(name, ""))


def _query_parameters(route: Route) -> Iterable[Document]:
    if route.query is None:
        return
    schema = route.query.model_json_schema(ref_template=REF)
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        text = field.pop("description", "")
        plain = _without_null(_inlined(field, schema.get("$defs", {})))
        yield _parameter(name, "query", plain, required=name in required, description=text)


def _inlined(schema: Document, definitions: Document) -> Document:
    """The schema with references to `definitions` (enumerations, for a query) replaced by what they mean."""
    if "$ref" in schema:
        return {**definitions[schema["$ref"].rpartition("/")[2]], **{k: v for k, v in schema.items() if k != "$ref"}}
    if "anyOf" in schema:
        return {**schema, "anyOf": [_inlined(branch, definitions) for branch in schema["anyOf"]]}
    return schema


def _without_null(schema: Document) -> Document:
    """A query parameter is absent, never null."""
    branches = [branch for branch in schema.get("anyOf", ()) if branch != {"type": "null"}]
    if len(branches) != 1:
        return schema
    kept = {key: value for key, value in schema.items() if key != "anyOf" and value is not None}
    return {**branches[0], **kept}


def _header_parameters(route: Route) -> Iterable[Document]:
    for name in route.headers:
        # Control characters are refused by the HTTP parser before a handler sees them. Most headers are hints, and
        # what cannot be one is passed over; `app.py` narrows the others.
        schema = {"type": "string", "pattern": r"^[\t -~\x80-\xff]*$"}
        yield _parameter(name, "header", schema, required=False, description=_HEADER_TEXTS.get(name.lower(), ""))


def _parameter(name: str, where: str, schema: Document, *, required: bool, description: str) -> Document:
    parameter: Document = {"name": name, "in": where, "required": required, "schema": schema}
    if description:
        parameter["description"] = description
    return parameter


def narrow_headers(described: Document, patterns: Mapping[str, str]) -> None:
    """Say in the description what the headers that are checked must look like."""
    for operations in described["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "header" and parameter["name"] in patterns:
                    parameter["schema"]["pattern"] = patterns[parameter["name"]]
