"""What the gateway reads from its environment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field
from yarl import URL

from gateway.batches.store import FileLimits
from gateway.conversations import MemoryLimits
from gateway.cors import ANY
from gateway.routing_settings import RoutingSettings
from gateway.templates import TemplateTable
from shared.access import is_loopback
from shared.queue.admission import DEAD_LETTER_TTL_S, MAX_DEAD_LETTERS, MEMORY_PERCENT, QueueLimits
from shared.settings import NameList, Seconds

KIB = 1024
MIB = 1024 * KIB


class GatewaySettings(RoutingSettings):
    """The gateway's settings. Every limit is finite."""

    gateway_host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address to listen on. Anything but loopback needs at least one API key.",
    )
    gateway_port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0: any free one.")
    allowed_hosts: NameList = Field(
        default_factory=list,
        description="Host names, comma-separated, that a request may be addressed to besides loopback names "
        "while the gateway listens on loopback; keeps web pages from reaching it by DNS rebinding.",
    )
    cors_allowed_origins: NameList = Field(
        default_factory=list,
        description="Origins, comma-separated, whose web pages may call the gateway, such as https://app.example; "
        "* for any. Empty: none.",
    )
    cors_allow_credentials: bool = Field(
        False, description="Let those pages send cookies and HTTP credentials along; not with *."
    )
    docs_enabled: Literal["auto", "true", "false"] = Field(
        "auto", description="The /docs page. auto: only while listening on loopback."
    )

    request_timeout: Seconds = Field(
        600.0,
        ge=1,
        le=86400,
        description="Longest deadline of a call, and the default one of a job, from acceptance, seconds.",
    )
    sync_result_ttl: Seconds = Field(
        600.0,
        ge=10,
        le=86400,
        description="How long the result of a call that was answered directly stays readable as a job, seconds. "
        "Jobs submitted as such, and calls with an Idempotency-Key, keep theirs for RESULT_TTL.",
    )
    max_queue_depth: int = Field(
        10_000, ge=1, le=10_000_000, description="Jobs that may wait; from there on the gateway answers 429."
    )
    max_tenant_queue_depth: int = Field(
        0,
        ge=0,
        le=10_000_000,
        description="Unfinished jobs of one tenant (waiting, scheduled and running); from there on it gets 429. "
        "0: only the limits for all.",
    )
    max_queue_bytes: int = Field(
        1024 * MIB, ge=MIB, description="Bytes of the requests of all unfinished jobs; from there on 503."
    )
    max_queue_wait: Seconds = Field(
        86400.0,
        ge=1,
        le=30 * 86400,
        description="When a class' oldest job has waited this long, no more of that class is taken (503), seconds.",
    )
    max_redis_memory_percent: int = Field(
        MEMORY_PERCENT,
        ge=10,
        le=100,
        description="Share of Redis' maxmemory, if it has one, from which on jobs get 503: the rest is for those under "
        "way.",
    )
    refuse_late_jobs: bool = Field(
        True, description="Refuse (503) a job that, at the present rate, would still be waiting at its deadline."
    )
    dead_letter_ttl: Seconds = Field(
        DEAD_LETTER_TTL_S,
        ge=60,
        le=90 * 86400,
        description="How long a dead letter is kept with its request, for looking at it and replaying it, seconds.",
    )
    max_dead_letters: int = Field(
        MAX_DEAD_LETTERS, ge=0, le=10_000_000, description="Most dead letters kept; the oldest go first."
    )
    ollama_streaming: bool = Field(
        True, description="Whether /api/chat and /api/generate stream when the request does not say; /v1 does not."
    )
    ollama_auto_health_check: bool = Field(
        True, description="Ask every service now and then how it is. Off: only when somebody wants to know."
    )
    ollama_health_check_interval: Seconds = Field(60.0, ge=1, le=86400, description="How often that is done, seconds.")
    max_prompt_chars: int = Field(
        8000, ge=1, le=MIB, description="Longest prompt of /generate, and message of /chat, characters."
    )
    prompt_templates: TemplateTable = Field(
        default_factory=dict,
        description="Prompts that /generate and /v1/jobs may be given by name, as JSON, or in YAML as a mapping: "
        '{"summarise": "Sum up in $words words: $text"}. $$ is a dollar sign.',
    )
    rate_limit_per_minute: int = Field(
        30,
        ge=0,
        le=100_000,
        description="Calls of /generate, /chat and /workers that an address may make in a minute without an API key; "
        "from there on 429. Calls with a key are not counted. 0: no limit.",
    )
    conversation_ttl: Seconds = Field(
        3600.0,
        ge=1,
        le=30 * 86400,
        description="How long what was said under a conversation_id is remembered after its last answer, seconds.",
    )
    conversation_exchanges: int = Field(
        20, ge=1, le=1000, description="Messages with their answers that a conversation remembers; the oldest go first."
    )
    conversation_max_bytes: int = Field(
        64 * KIB, ge=KIB, le=MIB, description="Bytes that a conversation remembers; the oldest exchanges go first."
    )
    max_batch_file_bytes: int = Field(
        16 * MIB, ge=KIB, le=64 * MIB, description="Largest file of /v1/files, bytes; beyond it 413."
    )
    max_tenant_file_bytes: int = Field(
        64 * MIB,
        ge=KIB,
        le=4096 * MIB,
        description="Bytes of all such files of a tenant; beyond it 429. They are in Redis.",
    )
    batch_file_ttl: Seconds = Field(86400.0, ge=60, le=30 * 86400, description="How long they are kept, seconds.")
    response_cache: Literal["never", "on_request", "always"] = Field(
        "on_request",
        description="Answer a request from what the same tenant was answered to the same one. on_request: to those who "
        "ask for it (Cache-Control: max-age=60, or x-arriero-cache: use). always: also to those who say nothing, if "
        "the request has temperature 0 or a seed, or is for vectors. Private requests, tools, images: never.",
    )
    stream_grace: Seconds = Field(
        1.0,
        ge=0,
        le=30,
        description="How long a stream's status line is held back for early failures to get their own, seconds.",
    )
    stream_keepalive: Seconds = Field(
        15.0, gt=0, le=300, description="Longest silence on a stream before a comment line is sent, seconds."
    )

    max_body_bytes: int = Field(MIB, ge=KIB, le=64 * MIB, description="Largest request body, bytes; beyond it 413.")
    max_header_line_bytes: int = Field(
        8190, ge=1024, le=64 * KIB, description="Longest request line or header, bytes; beyond it 431."
    )
    max_header_count: int = Field(100, ge=16, le=1000, description="Most headers in a request.")
    header_timeout: Seconds = Field(
        10.0, gt=0, le=120, description="Time to send a whole request head, seconds; then the connection is closed."
    )
    body_timeout: Seconds = Field(
        30.0, gt=0, le=600, description="Time to send a whole request body, seconds; then 408."
    )
    keepalive_timeout: Seconds = Field(
        75.0, gt=0, le=3600, description="How long an idle connection is kept open, seconds."
    )
    max_connections: int = Field(
        10_000, ge=1, le=1_000_000, description="Open connections; further ones get 503 and are closed."
    )
    drain_timeout: Seconds = Field(
        30.0, ge=0, le=3600, description="How long running requests may go on after SIGTERM, seconds."
    )

    def conflicts(self) -> Iterator[str]:
        yield from super().conflicts()
        for origin in self.cors_allowed_origins:
            parts = urlsplit(origin)
            if origin != ANY and (not parts.scheme or not parts.netloc or parts.path or parts.query):
                yield f"CORS_ALLOWED_ORIGINS: {origin} is no origin; write scheme, host and port only: https://app:8443."
        for service in self.services.values():
            if any(self._is_here(url) for url in service.urls):
                yield f"SERVICES.{service.name}.urls: that is this gateway, which would ask itself; name another port."
        if self.cors_allow_credentials and ANY in self.cors_allowed_origins:
            yield "CORS_ALLOW_CREDENTIALS: any page could act as its visitor; name the origins instead of *."

    def _is_here(self, url: str) -> bool:
        parts = urlsplit(url)
        return parts.port == self.gateway_port and is_loopback(parts.hostname or "")

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the gateway."""
        return is_loopback(self.gateway_host)

    @property
    def shown_model_hosts(self) -> list[str]:
        """`ollama_hosts` without the passwords that may be in them."""
        return [str(URL(url).with_user(None)) if "@" in url else url for url in self.ollama_hosts]

    @property
    def queue_limits(self) -> QueueLimits:
        """What the queue may hold, as the scripts check it."""
        return QueueLimits(
            depth=self.max_queue_depth,
            tenant_depth=self.max_tenant_queue_depth,
            payload_bytes=self.max_queue_bytes,
            oldest_wait_s=self.max_queue_wait,
            memory_percent=self.max_redis_memory_percent,
            estimates=self.refuse_late_jobs,
            dead_letters=self.max_dead_letters,
            dead_letter_ttl_s=self.dead_letter_ttl,
        )

    @property
    def file_limits(self) -> FileLimits:
        """What a batch file, and all of a tenant's, may hold."""
        return FileLimits(
            max_bytes=self.max_batch_file_bytes,
            max_tenant_bytes=self.max_tenant_file_bytes,
            ttl_s=int(self.batch_file_ttl),
        )

    @property
    def memory_limits(self) -> MemoryLimits:
        """What a conversation may remember."""
        return MemoryLimits(
            ttl_s=self.conversation_ttl,
            exchanges=self.conversation_exchanges,
            max_bytes=self.conversation_max_bytes,
        )

    @property
    def serves_docs(self) -> bool:
        if self.docs_enabled == "auto":
            return self.on_loopback
        return self.docs_enabled == "true"
