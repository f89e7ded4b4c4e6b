"""What the worker reads from its environment."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from shared.backends.base import CallTimeouts
from shared.jobs import Priority
from shared.resilience.answer_store import CachePolicy
from shared.resilience.backoff import RetryPolicy
from shared.resilience.breaker import BreakerPolicy
from shared.resilience.budget import BudgetPolicy
from shared.settings import BaseServiceSettings, Ratio, Seconds
from worker.fallback import FallbackPolicy
from worker.scheduling.policy import Knobs


class WorkerSettings(BaseServiceSettings):
    """Settings of `python -m worker`."""

    worker_id: str = Field(
        "llm-worker-1",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$",
        description="Name of this worker in metrics, health and job records. Replicas may share it.",
    )
    worker_host: str = Field("127.0.0.1", description="Address of the worker's health and metrics pages.")
    worker_port: int = Field(3008, ge=0, le=65535, description="Port of those pages; 0 = any free.")
    worker_concurrency: int = Field(5, ge=1, le=10_000, description="Jobs one worker process runs at a time.")
    max_concurrent_requests: int = Field(
        10, ge=1, le=10_000, description="Calls that one model host gets at a time, from all workers together."
    )
    ollama_num_parallel: int = Field(
        0,
        ge=0,
        le=10_000,
        description="Calls that one model on one host gets at a time, from all workers together; set it to the hosts' "
        "own OLLAMA_NUM_PARALLEL, so that what cannot run waits here and not there. 0: MAX_CONCURRENT_REQUESTS.",
    )
    ollama_embedding_parallel: int = Field(
        2,
        ge=1,
        le=10_000,
        description="The same for embeddings, which Ollama runs one call at a time; a second one is on its way "
        "meanwhile.",
    )
    ollama_max_loaded_models: int = Field(
        0,
        ge=0,
        le=1000,
        description="Models that a host's memory holds at a time. 0: found out by watching which are pushed out.",
    )
    reserved_high_slots: int = Field(
        1, ge=0, le=1000, description="Of those calls of a model, how many only jobs of priority high may take."
    )
    enable_gpu_optimization: bool = Field(
        True,
        description="Serve the models that the hosts have in memory first, and swap models rarely. Off: first come, "
        "first served.",
    )
    cold_wait_high: Seconds = Field(
        10.0,
        ge=0,
        le=3600,
        description="How long a job of priority high waits for its model to be loaded at the cost of others, seconds; "
        "so long for each model that waits for the same host.",
    )
    cold_wait_normal: Seconds = Field(15.0, ge=0, le=3600, description="The same for priority normal, seconds.")
    cold_wait_low: Seconds = Field(20.0, ge=0, le=3600, description="The same for priority low, seconds.")
    model_residency: Seconds = Field(
        10.0,
        ge=0,
        le=3600,
        description="How long a model is used before another one that jobs wait for may push it out, seconds; five "
        "times what loading one takes is a good value.",
    )
    enable_batch_processing: bool = Field(True, description="Serve several embedding jobs with one call.")
    worker_batch_size: int = Field(10, ge=1, le=200, description="Embedding jobs that one call serves at most.")
    batch_timeout: Seconds = Field(
        5.0,
        ge=0,
        le=300,
        description="While another embedding call of the same model is under way, how long a job waits at most for "
        "more to fill its call, seconds. With none under way it never waits.",
    )
    worker_timeout: Seconds = Field(300.0, gt=0, le=86400, description="Limit on one run of a job, seconds.")
    worker_drain_timeout: Seconds = Field(
        30.0,
        ge=0,
        le=3600,
        description="How long SIGTERM lets running jobs finish before they are handed back, seconds.",
    )
    ollama_connect_timeout: Seconds = Field(5.0, gt=0, le=60, description="Limit on connecting to a backend, seconds.")
    ollama_timeout: Seconds = Field(
        300.0, gt=0, le=86400, description="Limit on the wait for a backend's first byte; covers model load, seconds."
    )
    ollama_gap_timeout: Seconds = Field(
        60.0, gt=0, le=3600, description="Limit on the silence between two chunks of an answer, seconds."
    )
    ollama_max_retries: int = Field(3, ge=1, le=10, description="Tries a job gets in all, the first included.")
    performance_sample_rate: Ratio = Field(
        0.1,
        description="Share of jobs whose times and tokens are logged when they end well (`job.settled`); failures "
        "always are.",
    )
    enable_model_fallback: bool = Field(True, description="Let other models stand in for one that fails.")
    fallback_timeout: Seconds = Field(60.0, gt=0, le=3600, description="Limit on one call of a stand-in, seconds.")
    fallback_num_ctx: int = Field(
        4096, ge=512, le=1_000_000, description="Context of a stand-in, tokens; more if the prompt needs it."
    )
    fallback_max_tokens: int = Field(1024, ge=1, le=1_000_000, description="Longest answer of a stand-in, tokens.")
    answer_cache_enabled: bool = Field(
        False,
        description="Keep answers in Redis, to be given again to the same request of the same tenant, marked as stale, "
        "when nothing can answer. Requests with tools, images or Cache-Control: no-store are left out.",
    )
    answer_cache_ttl: Seconds = Field(3600.0, ge=1, le=604800, description="How long an answer is kept, seconds.")
    answer_cache_max_bytes: int = Field(
        64 * 1024 * 1024, ge=1024, description="Limit on all kept answers together, bytes."
    )
    answer_cache_max_answer_bytes: int = Field(256 * 1024, ge=64, description="Longer answers are not kept, bytes.")
    response_cache_ttl: Seconds = Field(
        3600.0, ge=1, le=604800, description="How long the response cache (RESPONSE_CACHE) keeps an answer, seconds."
    )
    response_cache_max_bytes: int = Field(
        16 * 1024 * 1024, ge=1024, description="Limit on what it keeps of one tenant, bytes; the oldest goes first."
    )
    response_cache_max_answers: int = Field(
        10_000, ge=1, le=1_000_000, description="Answers that it keeps of one tenant; the oldest go first."
    )
    response_cache_max_answer_bytes: int = Field(
        256 * 1024, ge=64, description="Answers that are longer do not go into it, bytes."
    )

    enable_circuit_breaker: bool = Field(
        True, description="Stop calling hosts and models that keep failing, until a single call has shown them well."
    )
    circuit_breaker_failures: int = Field(
        5,
        ge=1,
        le=1000,
        description="Failures in a row, over all workers, that open a circuit; where some calls fail anyway, more.",
    )
    circuit_breaker_failure_rate: float = Field(
        0.5, gt=0, le=1, description="Share of failed calls within the window that opens a circuit."
    )
    circuit_breaker_min_calls: int = Field(
        10, ge=1, le=100_000, description="Calls within the window before that share counts."
    )
    circuit_breaker_window: Seconds = Field(30.0, ge=1, le=3600, description="The window, seconds.")
    circuit_breaker_open_time: Seconds = Field(
        5.0, ge=0.1, le=3600, description="How long a circuit stays open the first time; then it doubles, seconds."
    )
    circuit_breaker_max_open_time: Seconds = Field(
        60.0, ge=0.1, le=3600, description="Longest a circuit stays open before it is tried again, seconds."
    )
    circuit_breaker_successes: int = Field(
        1, ge=1, le=100, description="Successful probes that close a half-open circuit."
    )
    circuit_breaker_probe_lease: Seconds = Field(
        30.0, ge=1, le=3600, description="How long one call alone may probe a half-open circuit, seconds."
    )
    retry_budget_size: float = Field(
        10.0, ge=1, le=100_000, description="Retries per model and host that all workers may make at once."
    )
    retry_budget_ratio: float = Field(0.2, ge=0, le=10, description="Retries that each success pays into that budget.")
    retry_budget_per_second: float = Field(
        1.0, ge=0.01, le=1000, description="Retries a second that it gains without successes."
    )

    def conflicts(self) -> Iterator[str]:
        yield from super().conflicts()
        if self.circuit_breaker_open_time > self.circuit_breaker_max_open_time:
            yield (
                f"CIRCUIT_BREAKER_OPEN_TIME: {self.circuit_breaker_open_time:g} s is longer than "
                f"CIRCUIT_BREAKER_MAX_OPEN_TIME, {self.circuit_breaker_max_open_time:g} s; raise that one, too."
            )
        if self.answer_cache_max_answer_bytes > self.answer_cache_max_bytes:
            yield (
                f"ANSWER_CACHE_MAX_ANSWER_BYTES: {self.answer_cache_max_answer_bytes} is more than the whole cache, "
                f"ANSWER_CACHE_MAX_BYTES, {self.answer_cache_max_bytes}; lower it, or raise that one."
            )

    @property
    def response_cache_policy(self) -> CachePolicy:
        return CachePolicy(
            ttl_s=self.response_cache_ttl,
            max_bytes=self.response_cache_max_bytes,
            max_answers=self.response_cache_max_answers,
            max_answer_bytes=self.response_cache_max_answer_bytes,
        )

    @property
    def breaker_policy(self) -> BreakerPolicy:
        return BreakerPolicy(
            failures=self.circuit_breaker_failures,
            window_s=self.circuit_breaker_window,
            failure_rate=self.circuit_breaker_failure_rate,
            min_calls=self.circuit_breaker_min_calls,
            open_s=self.circuit_breaker_open_time,
            open_cap_s=self.circuit_breaker_max_open_time,
            successes_to_close=self.circuit_breaker_successes,
            probe_lease_s=self.circuit_breaker_probe_lease,
        )

    @property
    def knobs(self) -> Knobs:
        return Knobs(
            by_affinity=self.enable_gpu_optimization,
            host_calls=self.max_concurrent_requests,
            unit_calls=self.ollama_num_parallel or self.max_concurrent_requests,
            embedding_calls=self.ollama_embedding_parallel,
            reserved=self.reserved_high_slots,
            batch=self.worker_batch_size if self.enable_batch_processing else 1,
            fill_s=self.batch_timeout,
            patience_s={
                Priority.HIGH: self.cold_wait_high,
                Priority.NORMAL: self.cold_wait_normal,
                Priority.LOW: self.cold_wait_low,
            },
            residency_s=self.model_residency,
        )

    @property
    def budget_policy(self) -> BudgetPolicy:
        return BudgetPolicy(
            size=self.retry_budget_size, per_success=self.retry_budget_ratio, per_s=self.retry_budget_per_second
        )

    @property
    def call_timeouts(self) -> CallTimeouts:
        return CallTimeouts(
            connect_s=self.ollama_connect_timeout,
            first_byte_s=self.ollama_timeout,
            gap_s=self.ollama_gap_timeout,
            total_s=self.worker_timeout,
        )

    @property
    def retry_policy(self) -> RetryPolicy:
        return RetryPolicy(tries=self.ollama_max_retries)

    @property
    def fallback_policy(self) -> FallbackPolicy:
        return FallbackPolicy(
            enabled=self.enable_model_fallback,
            models=self.fallback_models,
            chains=self.fallback_chains,
            context_tokens=self.fallback_num_ctx,
            output_tokens=self.fallback_max_tokens,
            timeout_s=self.fallback_timeout,
        )

    @property
    def cache_policy(self) -> CachePolicy:
        return CachePolicy(
            ttl_s=self.answer_cache_ttl,
            max_bytes=self.answer_cache_max_bytes,
            max_answer_bytes=self.answer_cache_max_answer_bytes,
        )
