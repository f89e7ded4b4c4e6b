"""The Lua scripts: loaded from `lua/` by name, run by their hash.

A script includes shared parts with `--@include name`. The table of moves and the limits come from Python, so
that Lua and Python cannot disagree.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from redis.asyncio import Redis

from shared.jobs import MOVES, POISON_CRASHES
from shared.lua import Field, read_script, run_script, script_hash
from shared.queue.admission import DEAD_LETTER_TTL_S, MAX_DEAD_LETTERS
from shared.queue.keys import Keys

_FOLDER = files("shared.queue") / "lua"
_EVEN_WITHOUT_MEMORY = frozenset({"cancel", "claim", "disown", "publish", "renew", "settle", "sweep", "take_slot"})
"""What accepted jobs need to end, and their end gives memory back. A Redis out of memory refuses the other scripts."""


def names() -> list[str]:
    """The scripts there are."""
    return sorted(entry.name.removesuffix(".lua") for entry in _FOLDER.iterdir() if entry.name.endswith(".lua"))


def source(name: str) -> str:
    """A script's full text: flags, constants, included parts, body."""
    flags = "#!lua flags=allow-oom\n" if name in _EVEN_WITHOUT_MEMORY else ""
    return flags + _constants() + read_script(_FOLDER, name)


def _constants() -> str:
    rows = [f"{state} = {{{', '.join(f'{to} = true' for to in sorted(targets))}}}" for state, targets in MOVES.items()]
    limits = f"local DEAD_LETTER_MS, MAX_DEAD_LETTERS = {DEAD_LETTER_TTL_S * 1000:.0f}, {MAX_DEAD_LETTERS}\n"
    return f"local MOVES = {{{', '.join(rows)}}}\nlocal POISON_CRASHES = {POISON_CRASHES}\n" + limits


class Scripts:
    """Runs the scripts of one shard on one Redis client."""

    def __init__(self, redis: Redis, keys: Keys, *, sources: dict[str, str] | None = None) -> None:
        self._redis = redis
        self._roots = (keys.root, keys.payload_root, keys.result_root)
        self._sources = sources or {name: source(name) for name in names()}
        self._hashes = {name: script_hash(text) for name, text in self._sources.items()}

    async def run(self, name: str, *args: Field) -> Any:
        """The script's reply."""
        return await run_script(self._redis, self._sources[name], self._hashes[name], 3, *self._roots, *args)
