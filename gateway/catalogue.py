"""Which models are installed on the configured hosts, as far as the gateway knows: to say no early, and helpfully.

A stale list may advise but must not lose work: only when every host answered does a missing model mean 404.
"""

from __future__ import annotations

import asyncio
import difflib
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from shared.backends.base import ModelInfo
from shared.errors import BackendError, BackendUnreachable, ModelNotFound
from shared.model_names import is_allowed
from shared.telemetry.logging import logger

log = logger("catalogue")

FRESH_FOR_S = 5.0
HOST_LIMIT_S = 2.0
NEAR_MATCHES = 3
LONGEST_ECHO = 200
"""Characters of a caller's text that an error message repeats at most."""

ReadModels = Callable[[], Awaitable[list[ModelInfo]]]


def canonical_name(name: str) -> str:
    """The form in which names are compared: lower case, with `:latest` where no tag is given."""
    lowered = name.lower()
    last = lowered.rpartition("/")[2]
    return lowered if ":" in last else lowered + ":latest"


def nobody_answers() -> BackendUnreachable:
    """The 503 for a question about models that no host answers."""
    return BackendUnreachable(
        "No model host answers, so their models are unknown. GET /health/ollama says why.", retry_after_s=5
    )


def not_found(name: str, installed: Iterable[str]) -> ModelNotFound:
    """The 404 for a model nobody has: what is near it, and how to get it."""
    # Without the default tag, which would make every two names look alike.
    plain = {known.lower().removesuffix(":latest"): known.removesuffix(":latest") for known in installed}
    near = difflib.get_close_matches(name.lower().removesuffix(":latest"), plain, n=NEAR_MATCHES, cutoff=0.5)
    hint = f" Did you mean {' or '.join(plain[match] for match in near)}?" if near else ""
    if len(name) > LONGEST_ECHO or not name.isprintable():
        return ModelNotFound("No model has such a name. GET /v1/models lists the installed ones.", param="model")
    return ModelNotFound(
        f"The model '{name}' is not installed on any backend.{hint} "
        f"To install it: `arriero models pull {name}`, or `ollama pull {name}` on a host.",
        param="model",
    )


@dataclass(frozen=True, slots=True)
class Listing:
    """What the hosts said. `complete` only if every one of them answered."""

    models: dict[str, ModelInfo] = field(default_factory=dict)
    complete: bool = False
    answered: int = 0


class Catalogue:
    """The cached list. Asking it costs nothing while it is fresh, and at most 2 s when it was never filled."""

    def __init__(self, hosts: Sequence[ReadModels], allowed: Collection[str] = ()) -> None:
        """`allowed`: ALLOWED_MODELS; other models are neither listed nor found. Empty: all are."""
        self._hosts = hosts
        self._allowed = allowed
        self._listing = Listing()
        self._read_at = float("-inf")
        self._task: asyncio.Task[None] | None = None

    async def listing(self, *, wait: bool = False) -> Listing:
        """The list. An old one is renewed behind the caller's back, unless there is none yet or `wait` is set."""
        age_s = time.monotonic() - self._read_at
        if age_s >= FRESH_FOR_S:
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._refresh(), name="catalogue")
            if wait or self._read_at == float("-inf"):
                await asyncio.shield(self._task)
        return self._listing

    async def installed(self) -> dict[str, ModelInfo]:
        """The models by canonical name, as of now. Raises BackendUnreachable when no host answers."""
        listing = await self.listing(wait=True)
        if not listing.answered:
            raise nobody_answers()
        return listing.models

    async def require(self, name: str) -> None:
        """Raise ModelNotFound if the model is not allowed, or all hosts answered and none has it."""
        if not is_allowed(name, self._allowed):
            raise ModelNotFound(
                "This gateway does not serve that model. GET /v1/models lists those it does.", param="model"
            )
        wanted = canonical_name(name)
        if wanted in self._listing.models:
            if time.monotonic() - self._read_at >= FRESH_FOR_S:
                await self.listing()
            return
        # Not in the list we have: it may have been installed a moment ago, so a refusal needs a fresh one.
        listing = await self.listing(wait=True)
        if wanted not in listing.models and listing.complete:
            raise not_found(name, (info.name for info in listing.models.values()))

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _refresh(self) -> None:
        answers = await asyncio.gather(*(self._ask(host) for host in self._hosts))
        models: dict[str, ModelInfo] = {}
        for answer in answers:
            for info in answer or ():
                if is_allowed(info.name, self._allowed):
                    models.setdefault(canonical_name(info.name), info)
        answered = sum(answer is not None for answer in answers)
        self._listing = Listing(models, complete=answered == len(answers), answered=answered)
        self._read_at = time.monotonic()

    async def _ask(self, host: ReadModels) -> list[ModelInfo] | None:
        try:
            async with asyncio.timeout(HOST_LIMIT_S):
                return await host()
        except (BackendError, TimeoutError) as error:
            log.debug("catalogue.host_silent", error=type(error).__name__)
            return None
