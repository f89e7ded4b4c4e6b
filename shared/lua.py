"""Lua scripts as files: their text with included parts, and running them by their hash."""

from __future__ import annotations

import hashlib
import re
from importlib.resources.abc import Traversable
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

Field = str | bytes | int
_INCLUDE = re.compile(r"^--@include (\w+)$", re.MULTILINE)


def read_script(folder: Traversable, name: str) -> str:
    """The text of `<name>.lua`, with `includes/<part>.lua` in place of each `--@include part`."""
    body = (folder / f"{name}.lua").read_text()
    return _INCLUDE.sub(lambda m: (folder / "includes" / f"{m[1]}.lua").read_text(), body)


def script_hash(text: str) -> str:
    """The name under which Redis keeps a script."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


async def run_script(redis: Redis, text: str, text_hash: str, key_count: int, *keys_and_fields: Field) -> Any:
    """The script's reply. A Redis that was restarted has forgotten its scripts, so it may need the text again."""
    call: Any = redis.execute_command  # untyped in redis-py 5
    try:
        return await call("EVALSHA", text_hash, key_count, *keys_and_fields)
    except NoScriptError:
        return await call("EVAL", text, key_count, *keys_and_fields)
