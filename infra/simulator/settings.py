"""What a simulator can be told. The command line (`__main__`) and `running(...)` both fill this in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Placement = Literal["chunk", "final", "by-model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorSettings:
    """Times are seconds. Zero for a speed means unlimited, zero for a time means none."""

    host: str = "127.0.0.1"
    port: int = 11434
    """0: any free port."""
    models: tuple[str, ...] = ("llama3.2", "mistral", "nomic-embed-text")
    registry: tuple[str, ...] = ()
    """Names that can be pulled, besides well-known ones and `slow-*`."""
    load_seconds: float = 0.5
    ready_poll_seconds: float = 0.25
    """Ollama notices that a load has finished when it polls the runner, so loads last whole steps of this."""
    tokens_per_second: float = 200.0
    """Of one slot running alone."""
    first_token_seconds: float = 0.05
    embedding_seconds: float | None = None
    """For one input of an embedding call; None: a tenth of `first_token_seconds`."""
    jitter: float = 0.0
    """Each gap between tokens varies by up to this share of itself, 0 to 1; the mean stays."""
    slowdown: float = 0.0
    """With k slots of a model busy, every stream gets tokens_per_second / (1 + slowdown * (k - 1))."""
    parallel: int = 4
    max_loaded_models: int = 2
    max_queue: int = 512
    keep_alive_seconds: float = 300.0
    """Negative: for ever."""
    context_length: int = 4096
    embedding_dimensions: int = 0
    """0: what each model is known for, 768 if nothing is known."""
    pull_seconds: float = 1.0
    """For a whole download; ten times that for a name `slow-*`."""
    seed: int = 0
    load_owner_aborts: bool = True
    """A load is killed, for everyone, when the request that began it disconnects."""
    tool_call_placement: Placement = "by-model"
    call_log_size: int = 200_000

    def __post_init__(self) -> None:
        for name in ("load_seconds", "tokens_per_second", "first_token_seconds", "slowdown", "pull_seconds", "port"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative: use 0 for none or unlimited")
        for name in ("parallel", "max_loaded_models", "max_queue", "context_length", "call_log_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if not self.ready_poll_seconds > 0:
            raise ValueError("ready_poll_seconds must be more than 0: use a small step such as 0.01")
        if not 0 <= self.jitter <= 1:
            raise ValueError("jitter must lie between 0 and 1: it is a share of the gap between tokens")
        if not 0 <= self.embedding_dimensions <= 65_536:
            raise ValueError("embedding_dimensions must lie between 0 and 65536")

    @property
    def one_embedding_seconds(self) -> float:
        return self.first_token_seconds / 10 if self.embedding_seconds is None else self.embedding_seconds
