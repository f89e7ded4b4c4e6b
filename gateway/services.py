"""What the handlers work with, built once in `app.py` and handed down through the application."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from aiohttp import web

from gateway.abandon import Abandoned
from gateway.batches.store import BatchStore, FileStore
from gateway.catalogue import Catalogue
from gateway.conversations import Conversations
from gateway.load import LoadView
from gateway.metrics import GatewayMetrics
from gateway.metrics_page import RequestMeter
from gateway.model_hosts import ModelHosts
from gateway.positions import PositionBoard
from gateway.rate_limit import AddressLimit
from gateway.replies import Replies
from gateway.route_table import Route
from gateway.router import Router
from gateway.service_models import ServiceModels
from gateway.settings import GatewaySettings
from shared.access import KeyWatch
from shared.operations.orders import Orders
from shared.queue.client import QueueClient
from shared.resilience.response_cache import ResponseCache
from shared.services.backends import ServiceBackends
from shared.services.health import ServiceHealths
from shared.services.registrations import Registrations
from shared.services.registry import Registry
from shared.usage.learning import LearnedEstimates

VERSION = "0.1.0"


@dataclass(slots=True, kw_only=True)
class Services:
    settings: GatewaySettings
    queue: QueueClient
    replies: Replies
    keys: KeyWatch
    catalogue: Catalogue
    registry: Registry
    backends: ServiceBackends
    health: ServiceHealths
    registrations: Registrations
    models: ServiceModels
    orders: Orders
    router: Router
    hosts: ModelHosts
    positions: PositionBoard
    load: LoadView
    estimates: LearnedEstimates
    abandoned: Abandoned
    conversations: Conversations
    responses: ResponseCache
    files: FileStore
    batches: BatchStore
    keyless: AddressLimit
    metrics: GatewayMetrics
    meter: RequestMeter
    routes: dict[web.AbstractRoute, Route] = field(default_factory=dict)
    openapi: bytes = b""
    """The description of all routes, as JSON."""
    started_at: float = field(default_factory=time.time)
    draining: bool = False
    """Stopping: no new connections, running requests may end."""
    cutting_off: bool = False
    """The drain's time is up: handlers are cancelled, and answer with what they can."""
