"""The queue in Redis, reached without the gateway.

Commands import this module when they run: it takes longer to import than all the others together.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.exceptions import RedisError

from arriero.cli.connection import this_stack
from arriero.cli.failures import EXIT_UNAVAILABLE, CommandFailed
from arriero.settings import StackSettings
from arriero.stack.runfile import without_password
from shared.errors import QueueUnavailable
from shared.queue.client import QueueClient
from shared.settings import BaseServiceSettings


def redis_settings() -> BaseServiceSettings:
    """The services' Redis settings; where none are given, those of the running `arriero up`."""
    settings = StackSettings()
    run = this_stack(settings)
    if not settings.redis_url and not settings.redis_sentinels and run is not None and run.redis_url:
        return BaseServiceSettings.model_validate({"redis_url": run.redis_url})
    return BaseServiceSettings()


@asynccontextmanager
async def queue() -> AsyncIterator[QueueClient]:
    """The queue, without the gateway. Raises CommandFailed when Redis does not answer."""
    settings = redis_settings()
    try:
        connected = await QueueClient.connect(settings)
        try:
            try:
                await connected.ping()
            except (RedisError, UnicodeError) as exc:
                # UnicodeError: a name that is none, such as a..b.
                raise CommandFailed(
                    f"what answers at {without_password(settings.redis_url)} is no Redis for us ({exc}): correct "
                    "REDIS_URL, REDIS_USERNAME or REDIS_PASSWORD",
                    EXIT_UNAVAILABLE,
                ) from exc
            yield connected
        finally:
            await connected.aclose()
    except QueueUnavailable as exc:
        why = f" ({exc.__cause__})" if exc.__cause__ else ""
        raise CommandFailed(
            f"Redis does not answer at {without_password(settings.redis_url)}{why}: start it (`make run` does), "
            "or say with REDIS_URL where it is, user and password included",
            EXIT_UNAVAILABLE,
        ) from exc
