"""What a caller says about a job in headers: deadline, idempotency, and whether to wait. Pure."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping

import msgspec

from gateway.routing_inputs import AUTO, NamedBeside
from shared.errors import BadRequest
from shared.jobs import JOB_ID_PREFIX
from shared.services.config import NAME as SERVICE_PATTERN

DEADLINE_HEADER = "x-arriero-deadline-seconds"
SDK_TIMEOUT_HEADER = "x-stainless-read-timeout"
IDEMPOTENCY_HEADER = "Idempotency-Key"
PRIVATE_HEADER = "x-arriero-private"
PROVIDER_HEADER = "x-arriero-provider"
CACHE_HEADER = "x-arriero-cache"
LEAST_DEADLINE_S = 0.1
LAST_EVENT_HEADER = "Last-Event-ID"
HEADER_PATTERNS = {
    IDEMPOTENCY_HEADER: r"^[!-~]{1,255}$",
    DEADLINE_HEADER: r"^(0\.[1-9][0-9]{0,2}|[1-9][0-9]{0,5}(\.[0-9]{1,3})?)$",
    LAST_EVENT_HEADER: r"^[0-9]{1,9}-[0-9]{1,12}$",
    PRIVATE_HEADER: r"^(true|false)$",
    PROVIDER_HEADER: SERVICE_PATTERN,
    CACHE_HEADER: r"^use$",
}
"""For the API description: what the headers that are not merely hints must look like."""

_SERVICE = re.compile(SERVICE_PATTERN)
_MAX_AGE = re.compile(r"max-age=([0-9]{1,9})")
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_encode = msgspec.json.Encoder(order="deterministic").encode


def deadline_s(headers: Mapping[str, str], longest_s: float, *, silent: bool = True) -> float:
    """Seconds until nobody waits any more: the least of our limit, the caller's wish and its client's read timeout.

    `silent`: nothing is sent before the whole answer. Only then does the client's read timeout, which limits a silence,
    limit the answer; a stream may take longer, and who collects the answer later reads nothing now.

    Raises BadRequest for a wish that is not a positive number. The client library's header is only a hint: nonsense in
    it is ignored.
    """
    limit = longest_s
    wish = headers.get(DEADLINE_HEADER)
    if wish is not None:
        seconds = _number(wish)
        if seconds is None:
            raise BadRequest(
                f"{DEADLINE_HEADER} is the number of seconds the answer may take, {LEAST_DEADLINE_S:g} or more.",
                param=DEADLINE_HEADER,
            )
        limit = min(limit, seconds)
    hint = headers.get(SDK_TIMEOUT_HEADER) if silent else None
    seconds = None if hint is None else _number(hint)
    return limit if seconds is None else min(limit, seconds)


def _number(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= LEAST_DEADLINE_S else None


def idempotency_key(headers: Mapping[str, str]) -> str | None:
    """The `Idempotency-Key`, if given. Raises BadRequest when it is not 1 to 255 visible ASCII characters."""
    key = headers.get(IDEMPOTENCY_HEADER)
    if key is not None and not _KEY.fullmatch(key):
        raise BadRequest("Idempotency-Key: send 1 to 255 visible ASCII characters.", param=IDEMPOTENCY_HEADER)
    return key


def idempotent_job_id(tenant: str, key: str) -> str:
    """The one job id that this tenant's key stands for. Another tenant's same key is another job."""
    digest = hashlib.blake2b(f"{tenant}\0{key}".encode(), digest_size=16, person=b"idempotency-key")
    return JOB_ID_PREFIX + digest.hexdigest()


def fingerprint(kind: str, body: object) -> str:
    """A hash of what was asked, whatever the order of its fields, to tell a repetition from a reused key."""
    return hashlib.blake2b(kind.encode() + b"\0" + _encode(body), digest_size=16).hexdigest()


def is_private(headers: Mapping[str, str], said: bool | None, default: bool) -> bool:
    """Whether the request says that it is private. `said`: in its body; yes in either place is yes.

    Raises BadRequest for a header that is neither true nor false.
    """
    header = headers.get(PRIVATE_HEADER)
    if header is None:
        return default if said is None else said
    if header not in ("true", "false"):
        raise BadRequest(f"{PRIVATE_HEADER}: send true or false.", param=PRIVATE_HEADER)
    return header == "true" or bool(said)


def provider(headers: Mapping[str, str], said: NamedBeside | None) -> NamedBeside | None:
    """The service named beside the model. `said`: in the body. Raises BadRequest where they disagree."""
    header = headers.get(PROVIDER_HEADER)
    if header is not None and not _SERVICE.fullmatch(header):
        raise BadRequest(f"{PROVIDER_HEADER}: is not the name of a service, such as ollama.", param=PROVIDER_HEADER)
    if header and said and header != said.service:
        raise BadRequest(f"`{said.param}` and {PROVIDER_HEADER} name two services. Name one.", param=said.param)
    named = NamedBeside(header, PROVIDER_HEADER) if header else said
    return None if named is None or named.service == AUTO else named


def is_cache_asked_for(headers: Mapping[str, str]) -> bool:
    """Whether an earlier answer would do: `x-arriero-cache: use`, or `Cache-Control: max-age=60` (RFC 9111).

    Raises BadRequest for another word in our header.
    """
    header = headers.get(CACHE_HEADER)
    if header not in (None, "use"):
        raise BadRequest(
            f"{CACHE_HEADER}: send use, or leave it out. Cache-Control: no-cache asks for a new answer.",
            param=CACHE_HEADER,
        )
    return header is not None or 0 < oldest_s(headers) < math.inf


def oldest_s(headers: Mapping[str, str]) -> float:
    """How old an earlier answer may be, seconds: `Cache-Control: max-age`; 0 with `no-cache`, else any age."""
    directives = [part.strip().lower() for part in headers.get("Cache-Control", "").split(",")]
    if "no-cache" in directives:
        return 0.0
    return min((float(found[1]) for part in directives if (found := _MAX_AGE.fullmatch(part))), default=math.inf)


def wants_no_copy(headers: Mapping[str, str]) -> bool:
    """`Cache-Control: no-store` (RFC 9111)."""
    directives = headers.get("Cache-Control")
    return directives is not None and "no-store" in directives.lower()


def wants_no_wait(headers: Mapping[str, str]) -> bool:
    """`Prefer: respond-async` (RFC 7240)."""
    prefer = headers.get("Prefer")
    return prefer is not None and any(part.strip().lower() == "respond-async" for part in re.split(r"[,;]", prefer))
