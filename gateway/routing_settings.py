"""Settings that decide where requests go and what they ask for when they do not say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field

from gateway.classifier import Vocabulary, WordList
from gateway.routing_inputs import PrivacyDetection, Role, RoutingPolicy
from shared.settings import BaseServiceSettings, NameList
from shared.wire.canonical import Sampling
from shared.wire.openai_fields import MAX_CONTEXT_TOKENS

SHORT_REQUEST_WORDS = 20
PRIVACY_WORDS = (
    *("patient", "patients", "phi", "hipaa", "medical record", "medical records", "diagnosis", "date of birth"),
    *("ssn", "social security number", "passport number", "credit card number", "confidential"),
)
CODE_WORDS = (
    *("```", "python", "javascript", "typescript", "java", "golang", "rust", "c++", "c#", "sql", "bash", "html", "css"),
    *("code", "function", "compile", "compiler", "debug", "refactor", "regex", "unit test", "unit tests"),
    *("stack trace", "traceback", "algorithm"),
)
COMPLEX_WORDS = (
    *("analyze", "analyse", "analysis", "compare", "comparison", "evaluate", "evaluation", "assess", "critique"),
    *("trade-off", "trade-offs", "strategy", "architecture", "implications", "comprehensive", "in depth", "prove"),
)


def _none_if_empty(value: Any) -> Any:
    return None if isinstance(value, str) and value.strip().lower() in ("", "none") else value


def _model(description: str, default: str) -> Any:
    return Field(default, min_length=1, max_length=256, description=description)


class RoutingSettings(BaseServiceSettings):
    """The part of the gateway's settings that routing reads."""

    ollama_default_model: str = _model(
        "Model of /generate and /chat with the worker type local_llm when they name none, and of `auto` for a general "
        "task. It may name its service: lm_studio~phi4.",
        "llama3.2",
    )
    ollama_fast_model: str = _model("Model of `auto` for a short task.", "llama3.2")
    ollama_code_model: str = _model("Model of `auto` for code.", "qwen2.5")
    ollama_tool_model: str = _model("Model of `auto` for a request with tools.", "mistral")
    ollama_vision_model: str = _model("Model of `auto` for a request with images.", "llava")
    short_request_words: int = Field(
        SHORT_REQUEST_WORDS, ge=0, le=10_000, description="`auto`: a request with fewer words is a short task."
    )
    code_words: NameList = Field(
        default_factory=lambda: list(CODE_WORDS),
        description="`auto`: words, comma-separated, of which one makes a request a task about code. Whole words, in "
        "any case; phrases too.",
    )
    complex_words: NameList = Field(
        default_factory=lambda: list(COMPLEX_WORDS),
        description="`auto`: words that make a request a complex task, which goes to the cloud if there is one.",
    )
    privacy_words: NameList = Field(
        default_factory=lambda: list(PRIVACY_WORDS),
        description="Words that make a request private: it never leaves machines of ours.",
    )
    privacy_detection: PrivacyDetection = Field(
        "all",
        description="Which requests are searched for PRIVACY_WORDS: all, auto (only those for the model `auto`), off. "
        "What a request says of itself counts in any case.",
    )
    private_by_default: bool = Field(
        False, description="Requests that do not say whether they are private are. They may say `private: false`."
    )
    first_loaded_model: bool = Field(
        False,
        description="A model that nobody has is answered by the first one in memory instead of 404; not for "
        "embeddings.",
    )
    response_model_name: Literal["asked", "qualified"] = Field(
        "asked", description="`model` in answers: the name asked for, or service~model of the one that answered."
    )
    ollama_temperature: Annotated[float | None, BeforeValidator(_none_if_empty)] = Field(
        0.7,
        ge=0,
        le=2,
        validation_alias=AliasChoices("ollama_temperature", "llm_temperature"),
        description="Temperature of requests in OpenAI's form, of jobs and of direct requests that say none, on "
        "machines of ours; `none`: the model's own. Requests in Ollama's or Anthropic's form get none. Also read as "
        "LLM_TEMPERATURE.",
    )
    ollama_max_tokens: Annotated[int | None, BeforeValidator(_none_if_empty)] = Field(
        None,
        ge=1,
        le=MAX_CONTEXT_TOKENS,
        validation_alias=AliasChoices("ollama_max_tokens", "llm_max_tokens"),
        description="Longest answer to those requests, tokens; empty: no cap. Also read as LLM_MAX_TOKENS.",
    )

    def conflicts(self) -> Iterator[str]:
        yield from super().conflicts()
        for role, model in self._models.items():
            variable = f"OLLAMA_{role.value.upper()}_MODEL"
            if variable.lower() in self.model_fields_set:
                yield from self.outside_allowed(variable, [model.partition("~")[2] or model])

    def fill_in(self, sampling: Sampling) -> None:
        """Give a request that says none the default temperature and length."""
        if sampling.temperature is None:
            sampling.temperature = self.ollama_temperature
        if sampling.max_tokens is None and "num_predict" not in sampling.options:
            sampling.max_tokens = self.ollama_max_tokens

    @property
    def _models(self) -> dict[Role, str]:
        return {
            Role.DEFAULT: self.ollama_default_model,
            Role.FAST: self.ollama_fast_model,
            Role.CODE: self.ollama_code_model,
            Role.TOOL: self.ollama_tool_model,
            Role.VISION: self.ollama_vision_model,
        }

    @property
    def routing_policy(self) -> RoutingPolicy:
        """What routing decides by."""
        return RoutingPolicy(
            models=self._models,
            vocabulary=Vocabulary(
                private=WordList(self.privacy_words),
                code=WordList(self.code_words),
                complex=WordList(self.complex_words),
                short_below=self.short_request_words,
            ),
            detection=self.privacy_detection,
            falls_back=self.enable_fallback,
            first_loaded=self.first_loaded_model,
            allowed=self.allowed_models,
        )
