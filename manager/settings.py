"""What the model manager reads from its environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

from manager.cleanup import CleanupPolicy
from manager.memory import split_limits
from manager.residency import ResidencyPolicy
from shared.settings import BaseServiceSettings, NameList, Ratio, Seconds

MemoryLimits = Annotated[dict[str, int], NoDecode, BeforeValidator(split_limits)]


class ManagerSettings(BaseServiceSettings):
    """The model manager's settings."""

    manager_host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address the model manager listens on. Anything but loopback needs at least one API key.",
    )
    manager_port: int = Field(
        default=3009, ge=0, le=65535, description="Port the model manager listens on; 0: any free one."
    )
    model_preload_enabled: bool = Field(True, description="Keep the models of MODEL_PRELOAD_LIST in memory.")
    model_preload_list: NameList = Field(
        default_factory=list,
        description="Models to load at start and to keep in memory on every host that has them installed and room for "
        "them, the most important first, comma-separated.",
    )
    model_memory_threshold: Ratio = Field(
        0.8, gt=0, description="Share of a host's memory limit above which models are unloaded: 0.8 or 80."
    )
    model_memory_limit: MemoryLimits = Field(
        default_factory=dict,
        description="Memory that models may take on a host: 24GiB for each, gpu1:11434=80GiB for one, comma-separated; "
        "0: no limit. Empty: what this machine has for hosts on it, no limit for others, as Ollama does not tell.",
    )
    model_min_residency: Seconds = Field(
        60.0, ge=0, le=86400, description="How long a loaded model is not unloaded again to make room, seconds."
    )
    memory_cleanup_interval: Seconds = Field(
        60.0, ge=1, le=3600, description="How often the models in memory are looked over, seconds."
    )
    model_cleanup_after: Seconds = Field(
        30 * 86400.0,
        ge=60,
        le=3650 * 86400,
        description="How long nobody must have used a model before a clean-up may delete it, seconds.",
    )

    model_pull_missing: bool = Field(
        False, description="Download models of MODEL_PRELOAD_LIST that a host does not have, onto every such host."
    )
    model_import_dir: str = Field(
        "",
        description="Folder on the managers' machine below which GGUF files may be imported from. Empty: no imports.",
    )
    ollama_library_url: str = Field(
        "https://ollama.com",
        pattern=r"^(https?://[^/\s]+.*)?$",
        description="Where Ollama's library is searched. Empty: it is not. Never in airgap mode.",
    )
    huggingface_url: str = Field(
        "https://huggingface.co",
        pattern=r"^(https?://[^/\s]+.*)?$",
        description="Where Hugging Face is searched. Empty: it is not. Never in airgap mode.",
    )
    registry_timeout: Seconds = Field(
        10.0, gt=0, le=60, description="Limit on one question to a registry of models, seconds."
    )
    registry_cache_ttl: Seconds = Field(
        21_600.0, ge=1, le=7 * 86400, description="How long what a registry said is kept, seconds."
    )
    model_maintenance_hour: int = Field(
        3, ge=0, le=23, description="Hour of the daily maintenance, in UTC: updates and clean-up where switched on."
    )
    model_auto_update: bool = Field(
        False, description="Have the daily maintenance download newer versions of the models that are installed."
    )
    model_auto_cleanup: bool = Field(
        False,
        description="Have the daily maintenance delete models unused for MODEL_CLEANUP_AFTER, as a clean-up does.",
    )

    def conflicts(self) -> Iterator[str]:
        yield from super().conflicts()
        yield from self.outside_allowed("MODEL_PRELOAD_LIST", self.preload_list)
        if self.model_import_dir and not Path(self.model_import_dir).is_dir():
            yield f"MODEL_IMPORT_DIR: {self.model_import_dir} is no folder; make it, or leave it out to import nothing."

    @property
    def preload_list(self) -> list[str]:
        """What is to be kept in memory; empty when that is switched off."""
        return self.model_preload_list if self.model_preload_enabled else []

    @property
    def residency_policy(self) -> ResidencyPolicy:
        return ResidencyPolicy(
            threshold=self.model_memory_threshold,
            idle_s=self.model_unload_timeout,
            preload=self.preload_list,
            min_resident_s=self.model_min_residency,
        )

    @property
    def cleanup_policy(self) -> CleanupPolicy:
        return CleanupPolicy(
            unused_s=self.model_cleanup_after,
            allowed=self.allowed_models,
            wanted=(
                ("MODEL_PRELOAD_LIST", self.model_preload_list),
                ("FALLBACK_MODELS", self.fallback_models),
                ("FALLBACK_CHAINS", [name for chain in self.fallback_chains.items() for name in (chain[0], *chain[1])]),
            ),
        )
