"""The resilience scripts: loaded from `lua/` by name, run by their hash, every key handed over."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis

from shared.lua import Field, read_script, run_script, script_hash

_FOLDER = files("shared.resilience") / "lua"


@cache
def source(name: str) -> str:
    """A script's full text, included parts and all."""
    return read_script(_FOLDER, name)


class Scripts:
    """Runs the scripts on one Redis client."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._hashes: dict[str, str] = {}

    async def run(self, name: str, keys: Sequence[str], *args: Field) -> Any:
        """The script's reply."""
        text = source(name)
        if name not in self._hashes:
            self._hashes[name] = script_hash(text)
        return await run_script(self._redis, text, self._hashes[name], len(keys), *keys, *args)
