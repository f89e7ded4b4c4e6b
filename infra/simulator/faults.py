"""Faults on demand: which calls they hit, and what they do.

Set by POST /_sim/faults or, for one call, by the header x-sim-fault.
"""

from __future__ import annotations

import random
from fnmatch import fnmatchcase
from typing import Any, Literal

import msgspec

from infra.simulator.names import shown_name

FAULT_HEADER = "x-sim-fault"
LOAD_PATH = "load"
"""As `match.path`, means the loading of a model rather than a call."""

Kind = Literal["status", "refuse", "hang", "drip", "cut", "garbage", "no_done"]
Variant = Literal[
    "truncated_json",
    "html",
    "nul",
    "huge_line",
    "error_line",
    "split_utf8",
    "duplicate_done",
    "embedding_count",
    "embedding_dimension",
    "embedding_nan",
]


class FaultError(ValueError):
    """The description of a fault cannot be used; the text says why."""


class Match(msgspec.Struct, forbid_unknown_fields=True):
    """Which calls: `path` may have wildcards, None means every inference path; `model` None means any."""

    path: str | None = None
    model: str | None = None


class Fault(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One kind of misbehaviour. A count goes down with every hit."""

    kind: Kind
    status: int = 500
    probability: float = 1.0
    count: int | None = None
    match: Match = msgspec.field(default_factory=Match)
    after_tokens: int | None = None
    """Where in an answer it strikes. None: before the first byte for status and hang, after three tokens for others."""
    body: str | None = None
    """Raw body of a status or garbage answer."""
    retry_after: float | None = None
    delay_seconds: float | None = None
    """Of a hang, how long (None: until the client leaves); of a drip, the gap (None: 0.5 s); else a delay before."""
    variant: Variant = "truncated_json"
    size_bytes: int = 9 * 1024 * 1024
    """Of a huge line."""
    hits: int = 0

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise ValueError("status must lie between 200 and 599")
        if not 0 <= self.probability <= 1:
            raise ValueError("probability must lie between 0 and 1")
        if self.count is not None and self.count < 1:
            raise ValueError("count must be at least 1, or null for no limit")
        for name in ("after_tokens", "retry_after", "delay_seconds"):
            if (value := getattr(self, name)) is not None and value < 0:
                raise ValueError(f"{name} must not be negative")
        if not 1 <= self.size_bytes <= 256 * 1024 * 1024:
            raise ValueError("size_bytes must lie between 1 and 268435456")

    @property
    def strike_at(self) -> int:
        """Tokens sent before it strikes inside an answer."""
        return 3 if self.after_tokens is None else self.after_tokens

    @property
    def strikes_first(self) -> bool:
        """Before the first byte, whatever would have been answered."""
        if self.kind == "garbage":
            return self.variant == "html" or (self.body is not None and self.after_tokens is None)
        return self.kind == "refuse" or (self.kind in ("status", "hang") and not self.after_tokens)


def parse_fault(description: bytes | str) -> Fault:
    """A fault from JSON, or from its kind alone. Raises FaultError."""
    raw = description.encode() if isinstance(description, str) else description
    try:
        value: Any = msgspec.json.decode(raw) if raw.lstrip().startswith(b"{") else {"kind": raw.decode().strip()}
        value.pop("hits", None)
        return msgspec.convert({k: v for k, v in value.items() if not (k == "match" and v is None)}, Fault)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise FaultError(f"not a fault: {exc}. `kind` is needed, the other fields are listed by --help.") from None


class FaultBook:
    """The faults in force, in the order they were set; the first that matches and whose dice fall hits."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._faults: list[Fault] = []
        self._draw = random.Random(seed)

    def add(self, fault: Fault) -> None:
        self._faults.append(fault)

    def all(self) -> list[Fault]:
        return list(self._faults)

    def clear(self) -> None:
        self._faults.clear()
        self._draw = random.Random(self._seed)

    def strike(self, path: str, model: str, *, is_inference: bool) -> Fault | None:
        """The fault that hits this call, counted. One whose count is used up is forgotten."""
        for fault in self._faults:
            if not _matches(fault.match, path, model, is_inference) or self._draw.random() >= fault.probability:
                continue
            fault.hits += 1
            if fault.count is not None:
                fault.count -= 1
                if fault.count == 0:
                    self._faults.remove(fault)
            return fault
        return None


def _matches(match: Match, path: str, model: str, is_inference: bool) -> bool:
    if match.path is None:
        if not is_inference:
            return False
    elif path == LOAD_PATH or match.path == LOAD_PATH:
        if path != match.path:
            return False
    elif not fnmatchcase(path, match.path):
        return False
    return match.model is None or _plain(match.model) == _plain(model)


def _plain(name: str) -> str:
    return shown_name(name.lower()).removesuffix(":latest")
