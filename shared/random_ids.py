"""Random ids, drawn by the page: asking the system for sixteen bytes costs as much as asking for four thousand."""

from __future__ import annotations

import os

PAGE_BYTES = 4096


class RandomIds:
    """Call it for `prefix` and `length` random bytes as hex digits. As safe to guess at as `secrets.token_hex`."""

    def __init__(self, prefix: str, length: int) -> None:
        self._prefix = prefix
        self._length = length
        self._ready: list[str] = []
        # Two processes must not hand out the same ids.
        os.register_at_fork(after_in_child=self._ready.clear)

    def __call__(self) -> str:
        if not self._ready:
            digits = os.urandom(PAGE_BYTES - PAGE_BYTES % self._length).hex("-", self._length)
            self._ready += digits.split("-")
        return self._prefix + self._ready.pop()
