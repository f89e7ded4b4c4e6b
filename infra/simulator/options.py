"""The `options` of a request, checked and sorted into those that load a model and those that sample from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infra.simulator.failures import ApiError

_INTEGERS = frozenset({"num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "draft_num_predict", "num_keep",
                       "seed", "num_predict", "top_k", "repeat_last_n"})  # fmt: skip
_FLOATS = frozenset({"top_p", "min_p", "typical_p", "temperature", "repeat_penalty", "presence_penalty",
                     "frequency_penalty"})  # fmt: skip
LEAST_CONTEXT, LEAST_VISION_CONTEXT = 4, 2048


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What a runner is started with. Two that differ do not share a runner; None is unset."""

    num_ctx: int
    num_batch: int | None = None
    num_gpu: int | None = None
    main_gpu: int | None = None
    use_mmap: bool | None = None
    num_thread: int | None = None
    draft_num_predict: int | None = None
    shift: bool = True


def checked(options: object) -> dict[str, Any]:
    """Known options with the right types; unknown ones are dropped. Raises ApiError, 500 for a wrong type."""
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise ApiError(400, "json: cannot unmarshal value into Go struct field .options of type map[string]any")
    kept: dict[str, Any] = {}
    for name, value in options.items():
        if value is None:
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if name in _INTEGERS:
            kept[name] = int(_require(name, value, number, "integer"))
        elif name in _FLOATS:
            kept[name] = float(_require(name, value, number, "float32"))
        elif name == "use_mmap":
            kept[name] = _require(name, value, isinstance(value, bool), "boolean")
        elif name == "stop":
            texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
            kept[name] = _require(name, value, texts, "array")
    return kept


def _require(name: str, value: Any, fits: bool, kind: str) -> Any:
    if not fits:
        raise ApiError(500, f'option "{name}" must be of type {kind}')
    return value


def load_options(
    options: dict[str, Any], *, default_ctx: int, trained_ctx: int, vision: bool, shift: bool
) -> LoadOptions:
    """The load-time part of checked options, with the context raised and capped as Ollama does."""
    least = LEAST_VISION_CONTEXT if vision else LEAST_CONTEXT
    return LoadOptions(
        num_ctx=min(max(options.get("num_ctx") or default_ctx, least), trained_ctx),
        num_batch=options.get("num_batch"),
        num_gpu=options.get("num_gpu"),
        main_gpu=options.get("main_gpu"),
        use_mmap=options.get("use_mmap"),
        num_thread=options.get("num_thread"),
        draft_num_predict=options.get("draft_num_predict"),
        shift=shift,
    )
