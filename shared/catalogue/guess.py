"""What a model's name gives away. Pure: a table of families, and a few signs that names carry everywhere."""

from __future__ import annotations

import re

from shared.catalogue.families import UNKNOWN, Family, family_of
from shared.catalogue.record import ModelRecord, ModelType

_CODING = re.compile(r"code|coder|codestral|devstral")
_INSTRUCTED = re.compile(r"instruct|chat|assistant|hermes|(?:^|[-_.:])(?:it|dpo|sft|rlhf)(?:$|[-_.:])")
_TOOLING = re.compile(r"tool|function-?call|functionary|firefunction|hermes-?[23]")
_VISION = re.compile(r"vision|(?:^|[-_.:\d])vl(?:$|[-_.:])|multimodal|image")
_EMBEDDING = re.compile(r"embed|minilm|sentence|reranker?|retriever")
_QUANTIZATION = re.compile(
    r"(?:^|[-_.:])(i?q\d(?:_[a-z0-9]+)*|mxfp4|nvfp4|fp?16|bf16|fp?32|fp8|int[48]|[2-8]-?bit|awq|gptq)(?:$|[-_.:])"
)
_SIZE = re.compile(r"(?:^|[-_.:])(?:(\d{1,3})x)?(\d{1,4}(?:\.\d{1,3})?)([bm])(?:$|[-_.:])")
_SIZES = {"b": 1e9, "m": 1e6}
_BASE = re.compile(r"(?:^|[-_.:])(?:base|pt|text)(?:$|[-_.:])")


def guess(service: str, name: str) -> ModelRecord:
    """The record of a model nothing but the name of which is known. `state` is left at its default."""
    publisher, _, last = name.lower().rpartition("/")
    stem = last.partition(":")[0]
    family = family_of(stem)
    kind = _kind(last, family)
    is_gguf, is_mlx = _is_gguf(name.lower()), "mlx" in re.split(r"[-_./:]", name.lower())
    return ModelRecord(
        service=service,
        upstream_name=name,
        type=kind,
        publisher=publisher.rpartition("/")[2],
        architecture=family.architecture,
        quantization=_quantization(last),
        runtime="MLX" if is_mlx else "llama.cpp" if is_gguf else "",
        max_tokens=family.max_tokens,
        parameters=parameters_in(last) or int(family.parameters),
        streaming=kind in ("llm", "vlm"),
        instructed=kind in ("llm", "vlm") and _is_instructed(last, family),
        coding=kind == "llm" and (family.coding or bool(_CODING.search(stem))),
        tooling=kind in ("llm", "vlm") and (family.tooling or bool(_TOOLING.search(stem))),
        is_mlx=is_mlx,
        is_gguf=is_gguf,
    )


def parameters_in(text: str) -> int:
    """The parameter count that a name or a size such as `3.2B` or `8x7b` tells; 0 for none."""
    found = _SIZE.search(text.lower())
    return int(int(found[1] or 1) * float(found[2]) * _SIZES[found[3]]) if found else 0


def _kind(name: str, family: Family) -> ModelType:
    if _EMBEDDING.search(name):
        return "embeddings"
    if family.type in ("llm", "unknown") and _VISION.search(name):
        return "vlm"
    # A name that tells of a size or of a tuning is that of a language model, of whatever family.
    if family is UNKNOWN and (_SIZE.search(name) or _INSTRUCTED.search(name) or _CODING.search(name)):
        return "llm"
    return family.type


def _is_instructed(name: str, family: Family) -> bool:
    return bool(_INSTRUCTED.search(name)) or (family.instructed and not _BASE.search(name))


def _quantization(name: str) -> str:
    found = _QUANTIZATION.search(name)
    return found[1].upper() if found else ""


def _is_gguf(name: str) -> bool:
    return "gguf" in name or bool(re.search(r"(?:^|[-_.:])i?q\d_[a-z0-9]", name))
