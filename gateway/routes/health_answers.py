"""What the health routes answer, as models that only describe; `gateway/openapi.py` turns them into schemas."""

from __future__ import annotations

from typing import Literal

from gateway.openapi_answers import Answer

PartState = Literal["healthy", "degraded", "no workers", "unhealthy"]


class Parts(Answer):
    redis: PartState
    queue: PartState
    ollama: PartState


class Liveness(Answer):
    status: Literal["alive"]
    timestamp: str
    uptime: float


class Readiness(Answer):
    status: Literal["ready", "degraded", "draining", "not ready"]
    timestamp: str
    services: Parts
    durability: str


class GatewayHealth(Answer):
    status: Literal["healthy", "degraded", "unhealthy"]
    timestamp: str
    uptime: float
    version: str
    services: Parts
    durability: str


class OllamaHealth(Answer):
    """`error_details` only while the status is `error`."""

    status: Literal["ok", "error"]
    message: str
    url: str


HEALTH_ANSWERS: tuple[type[Answer], ...] = (Liveness, Readiness, GatewayHealth, OllamaHealth)
