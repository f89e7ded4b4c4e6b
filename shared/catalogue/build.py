"""A model's record from what its servers said, with guesses from its name where they said nothing. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from shared.backends.base import LoadedModel, ModelInfo
from shared.backends.ollama_models import ModelDetails
from shared.catalogue.guess import guess, parameters_in
from shared.catalogue.record import ModelRecord, ModelState, ModelType
from shared.model_names import same


@dataclass(frozen=True, slots=True, kw_only=True)
class HostAnswer:
    """What one of a service's machines said it has."""

    host: str
    models: Sequence[ModelInfo]
    loaded: Sequence[LoadedModel] = ()


def records(
    service: str,
    answers: Iterable[HostAnswer],
    details: Mapping[str, ModelDetails],
    *,
    loads: bool,
    now: float,
    listed: Collection[str] = (),
) -> list[ModelRecord]:
    """One record for each model of a service, by name. `details` are by `same` name; `listed` are models that the
    configuration names; `loads` says whether the service tells what is in memory; `now` in Unix seconds."""
    infos: dict[str, ModelInfo] = {}
    hosts: dict[str, list[str]] = {}
    loaded: set[str] = set()
    for answer in answers:
        for info in answer.models:
            infos.setdefault(same(info.name), info)
            hosts.setdefault(same(info.name), []).append(answer.host)
        loaded.update(same(model.name) for model in answer.loaded)
    for name in listed:
        infos.setdefault(same(name), ModelInfo(name=name))
    found = [
        replace(
            told(service, info, details.get(key)),
            state=_state(key in loaded, loads),
            hosts=tuple(hosts.get(key, ())),
            seen_at=now,
        )
        for key, info in infos.items()
    ]
    return sorted(found, key=lambda record: record.upstream_name)


def told(service: str, info: ModelInfo, details: ModelDetails | None = None) -> ModelRecord:
    """What is known of one model. What a server says goes before what its name suggests."""
    guessed = guess(service, info.name)
    known = details or ModelDetails()
    capabilities = known.capabilities or info.capabilities
    quantization = (known.quantization or info.quantization).removeprefix("unknown")
    kind = _kind(capabilities) or guessed.type
    # Only weights files tell their architecture, and the only servers that show theirs read GGUF.
    architecture = str(known.info.get("general.architecture", "") or known.family or info.family)
    return replace(
        guessed,
        type=kind,
        description=str(known.info.get("general.description", "")),
        architecture=architecture or guessed.architecture,
        quantization=quantization or guessed.quantization,
        runtime="llama.cpp" if architecture else guessed.runtime,
        max_tokens=known.context_length or guessed.max_tokens,
        size_bytes=info.size_bytes,
        parameters=_parameters(known, info) or guessed.parameters,
        streaming=kind in ("llm", "vlm"),
        coding=guessed.coding or (kind == "llm" and "insert" in capabilities),
        tooling="tools" in capabilities if capabilities else guessed.tooling,
        instructed=guessed.instructed or "tools" in capabilities,
        is_gguf=guessed.is_gguf or bool(architecture),
        capabilities=capabilities,
        digest=info.digest,
        modified_at=known.modified_at or info.modified_at,
    )


def _kind(capabilities: Collection[str]) -> ModelType | None:
    """By the words of Ollama; None where they do not say."""
    if "embedding" in capabilities:
        return "embeddings"
    writes, sees = "completion" in capabilities, "vision" in capabilities
    if writes:
        return "vlm" if sees else "llm"
    return "vision" if sees else None


def _parameters(known: ModelDetails, info: ModelInfo) -> int:
    exact = known.info.get("general.parameter_count", 0)
    if isinstance(exact, int) and exact > 0:
        return exact
    return parameters_in(known.parameter_size or info.parameter_size)


def _state(is_loaded: bool, loads: bool) -> ModelState:
    if is_loaded:
        return "loaded"
    return "not_loaded" if loads else "ready"
