"""Families of models that are known by name, and what their latest common members can do. Data only.

Read from the top; the first pattern found in a name, in lower case and without publisher and tag, tells. Sources are
the families' own model cards; where members differ, the row has the cautious value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.catalogue.record import ModelType


@dataclass(frozen=True, slots=True)
class Family:
    """`max_tokens` is the context length, 0 unknown; `parameters` those of the model without a size in its name."""

    pattern: re.Pattern[str]
    architecture: str
    max_tokens: int = 0
    type: ModelType = "llm"
    tooling: bool = False
    coding: bool = False
    instructed: bool = True
    parameters: float = 0.0


def _row(pattern: str, architecture: str, max_tokens: int = 0, **fields: object) -> Family:
    return Family(re.compile(pattern), architecture, max_tokens, **fields)  # type: ignore[arg-type]  # a table's row


FAMILIES: tuple[Family, ...] = (
    # Vectors
    _row(r"nomic-embed", "nomic-bert", 8192, type="embeddings", instructed=False, parameters=137e6),
    _row(r"mxbai-embed|snowflake-arctic-embed|bge-large|all-minilm|^gte-|^e5-", "bert", 512, type="embeddings",
         instructed=False),
    _row(r"bge-m3", "bert", 8192, type="embeddings", instructed=False),
    _row(r"text-embedding", "", 8191, type="embeddings", instructed=False),
    _row(r"embed", "", type="embeddings", instructed=False),
    # Text and images
    _row(r"llama-?3\.2-vision", "mllama", 131_072, type="vlm"),
    _row(r"llama-?4", "llama4", 131_072, type="vlm", tooling=True),
    _row(r"llava|bakllava", "llama", 4096, type="vlm"),
    _row(r"moondream", "phi2", 2048, type="vlm"),
    _row(r"qwen-?(2\.5|3)-?vl", "qwenvl", 32_768, type="vlm"),
    _row(r"gemma-?[34](?!n)", "gemma3", 131_072, type="vlm"),
    _row(r"pixtral|minicpm-v|internvl|granite.*vision", "", type="vlm"),
    _row(r"\b(clip|siglip|dinov?2?|sam2?)\b", "", type="vision", instructed=False),
    # Code
    _row(r"codellama", "llama", 16_384, coding=True, instructed=False, parameters=6.7e9),
    _row(r"qwen-?(2\.5|3)-coder", "qwen2", 32_768, coding=True, tooling=True),
    _row(r"deepseek-coder", "deepseek2", 16_384, coding=True),
    _row(r"starcoder|stable-code|codegemma|codestral", "", coding=True, instructed=False),
    _row(r"devstral", "llama", 131_072, coding=True, tooling=True),
    # Text
    _row(r"llama-?3\.[123]", "llama", 131_072, tooling=True, parameters=3.2e9),
    _row(r"llama-?3", "llama", 8192, parameters=8e9),
    _row(r"llama-?2|tinyllama|vicuna|orca-mini", "llama", 4096, parameters=6.7e9),
    _row(r"mixtral", "llama", 32_768, tooling=True, parameters=46.7e9),
    _row(r"mistral|ministral|magistral", "llama", 32_768, tooling=True, parameters=7.2e9),
    _row(r"qwen-?3", "qwen3", 40_960, tooling=True, parameters=8.2e9),
    _row(r"qwen-?2\.5|qwq", "qwen2", 32_768, tooling=True, parameters=7.6e9),
    _row(r"qwen", "qwen2", 32_768, parameters=4e9),
    _row(r"phi-?4", "phi3", 16_384, parameters=14.7e9),
    _row(r"phi-?3", "phi3", 131_072, parameters=3.8e9),
    _row(r"\bphi\b|phi-?2", "phi2", 2048, parameters=2.8e9),
    _row(r"gemma", "gemma", 8192),
    _row(r"gpt-oss", "gptoss", 131_072, tooling=True, parameters=20.9e9),
    _row(r"deepseek-r1", "qwen2", 131_072, parameters=8.2e9),
    _row(r"deepseek", "deepseek2", 131_072, tooling=True),
    _row(r"command-r", "command-r", 131_072, tooling=True),
    _row(r"granite", "granite", 131_072, tooling=True),
    # Clouds
    _row(r"gpt-(4o|4\.1|5)|^o[134](-|$)", "", 128_000, type="vlm", tooling=True),
    _row(r"gpt-(3\.5|4)", "", 8192, tooling=True),
    _row(r"claude", "", 200_000, type="vlm", tooling=True),
    _row(r"gemini", "", 1_000_000, type="vlm", tooling=True),
)  # fmt: skip
UNKNOWN = Family(re.compile(r""), "", type="unknown", instructed=False)


def family_of(stem: str) -> Family:
    """`stem` is a name as the module's docstring has it."""
    return next((family for family in FAMILIES if family.pattern.search(stem)), UNKNOWN)
