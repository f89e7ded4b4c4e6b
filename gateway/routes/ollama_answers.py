"""What Ollama's face answers, as models that only describe: see `gateway.openapi_answers`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.openapi_answers import Answer, Count

Nanoseconds = Annotated[int, Field(ge=0, description="Nanoseconds; left out when 0.")]


class OllamaError(Answer):
    error: str


class OllamaFigures(Answer):
    """At the end of an answer. What is 0 is left out."""

    created_at: str
    model: str
    done: Annotated[bool, Field(description="In a stream: true in the last line only.")]
    done_reason: Literal["stop", "length", "load"] = "stop"
    total_duration: Nanoseconds = 0
    load_duration: Nanoseconds = 0
    prompt_eval_count: Count = 0
    prompt_eval_duration: Nanoseconds = 0
    eval_count: Count = 0
    eval_duration: Nanoseconds = 0


class OllamaTurn(Answer):
    role: Literal["assistant"]
    content: str
    thinking: str = ""
    tool_calls: list[dict[str, Any]] = Field(default=[], description="`function.arguments` is an object.")


class OllamaChat(OllamaFigures):
    """In a stream each line is one of these."""

    message: OllamaTurn


class OllamaGeneration(OllamaFigures):
    """In a stream each line is one of these."""

    response: str
    thinking: str = ""


class OllamaVectors(Answer):
    model: str
    embeddings: list[list[float]]


class OllamaVector(Answer):
    embedding: list[float]


class OllamaModelFacts(Answer):
    family: str
    parameter_size: str
    quantization_level: str


class OllamaModel(Answer):
    name: str
    model: str
    digest: str
    size: Count
    details: OllamaModelFacts


class OllamaModels(Answer):
    models: list[OllamaModel]


class OllamaResident(OllamaModel):
    size_vram: Count
    context_length: Count


class OllamaResidents(Answer):
    models: list[OllamaResident]


class OllamaModelDetails(Answer):
    details: OllamaModelFacts
    model_info: dict[str, Any]


class OllamaVersion(Answer):
    version: str


OLLAMA_ANSWERS: tuple[type[Answer], ...] = (
    OllamaError,
    OllamaChat,
    OllamaGeneration,
    OllamaVectors,
    OllamaVector,
    OllamaModels,
    OllamaResidents,
    OllamaModelDetails,
    OllamaVersion,
)
