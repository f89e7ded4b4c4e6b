"""The arithmetic behind docs/models-latency.md: what a model needs, and how long its answers take at best. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

BYTES_PER_PARAMETER = 0.6
"""Of Q4_K_M, Ollama's usual quantisation: some 4.8 bits."""
BYTES_PER_CACHED_NUMBER = 2
"""f16, Ollama's default for the KV cache."""
CONTEXT = 4096
OVERHEAD_GB = 1.0
"""Buffers and the runtime, roughly."""
READ_SHARE = 0.65
"""How much of the memory's speed a good kernel gets out of it while it generates."""
STEP_S = 0.001
"""What each token costs however small the model is."""
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Model:
    name: str
    billions: float
    layers: int
    kv_heads: int
    head_size: int

    @property
    def weights_gb(self) -> float:
        return self.billions * BYTES_PER_PARAMETER

    @property
    def cache_bytes_per_token(self) -> int:
        # Keys and values.
        return 2 * self.layers * self.kv_heads * self.head_size * BYTES_PER_CACHED_NUMBER

    def needs_gb(self, slots: int = 1) -> float:
        """Weights, the cache of so many slots with a context of 4096 each, and what the runtime takes."""
        return self.weights_gb + slots * self.cache_bytes_per_token * CONTEXT / 1e9 + OVERHEAD_GB


@dataclass(frozen=True, slots=True)
class Machine:
    """`gb`: memory for models. `gb_per_s`: how fast it is read. `tflops`: what arithmetic really reaches, roughly."""

    name: str
    gb: float
    gb_per_s: float
    tflops: float


@dataclass(frozen=True, slots=True)
class Task:
    name: str
    prompt_tokens: int
    answer_tokens: int


MODELS = (
    Model("llama3.2 (3B)", 3.2, 28, 8, 128),
    Model("mistral (7B)", 7.2, 32, 8, 128),
    Model("qwen2.5 (7B)", 7.6, 28, 4, 128),
    Model("llama3.1 (8B)", 8.0, 32, 8, 128),
    Model("llama3.3 (70B)", 70.6, 80, 8, 128),
)
MACHINES = (
    Machine("CPU only, 64 GB of DDR5", 64, 80, 1),
    Machine("GPU, 12 GB", 12, 360, 30),
    Machine("GPU, 24 GB", 24, 1000, 160),
    Machine("GPU, 80 GB", 80, 3000, 400),
)
TASKS = (
    Task("classify", 300, 5),
    Task("chat", 500, 200),
    Task("write code", 1500, 600),
    Task("summarise five pages", 3000, 300),
)


def tokens_per_s(model: Model, machine: Machine) -> float:
    """Each token of an answer reads all weights once, so memory speed is the limit."""
    return 1 / (model.weights_gb / (READ_SHARE * machine.gb_per_s) + STEP_S)


def seconds(model: Model, machine: Machine, task: Task) -> float | None:
    """Reading the prompt (two operations for each parameter and token), then writing the answer. None: does not fit."""
    if model.needs_gb() > machine.gb:
        return None
    reading = task.prompt_tokens * 2 * model.billions * 1e9 / (machine.tflops * 1e12)
    return reading + task.answer_tokens / tokens_per_s(model, machine)


def memory_table() -> Iterator[str]:
    yield "| model | parameters | weights | KV cache a token | of 4096 tokens | in all, 1 slot | in all, 4 slots |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for model in MODELS:
        cache = model.cache_bytes_per_token
        cells = [
            model.name,
            f"{model.billions:g}e9",
            f"{model.weights_gb:.1f} GB",
            f"{cache / 1024:.0f} KiB",
            f"{cache * CONTEXT / GIB:.2f} GiB",
            f"{model.needs_gb():.1f} GB",
            f"{model.needs_gb(4):.1f} GB",
        ]
        yield f"| {' | '.join(cells)} |"


def latency_table() -> Iterator[str]:
    yield f"| model | task | {' | '.join(machine.name for machine in MACHINES)} |"
    yield "|---|---|" + "---:|" * len(MACHINES)
    for model in MODELS:
        for task in TASKS:
            cells = (_shown(seconds(model, machine, task)) for machine in MACHINES)
            yield f"| {model.name} | {task.name} | {' | '.join(cells)} |"


def _shown(value: float | None) -> str:
    """Two figures: it is not known any better."""
    if value is None:
        return "does not fit"
    if value >= 120:
        return f"{value / 60:.0f} min"
    return f"{value:.0f} s" if value >= 10 else f"{value:.1f} s" if value >= 1 else f"{value:.2f} s"
