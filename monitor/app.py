"""The monitor's composition root: its clients, its collectors and channels, its pages, its life."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import msgspec

from monitor.collect.gpu import GpuCollector
from monitor.collect.host import HostCollector
from monitor.collect.ollama import OllamaCollector
from monitor.collect.queue import QueueCollector
from monitor.collect.usage import UsageCollector
from monitor.deliver.channels import Alertmanager, Channel, Slack, Webhook
from monitor.deliver.ledger import Ledger
from monitor.deliver.post import Post, new_session
from monitor.deliver.teller import Teller
from monitor.metrics import MonitorMetrics
from monitor.pages import Pages
from monitor.report import readings
from monitor.rules import rules
from monitor.sampler import COLLECTORS, Sampler
from monitor.settings import MonitorSettings, webhook_key
from monitor.watch import Watch
from shared.backends.ollama import OllamaBackend
from shared.background import end_task
from shared.errors import QueueUnavailable
from shared.lifecycle import StopSignal, open_logs
from shared.pages import PageGuard
from shared.queue.client import QueueClient
from shared.services.settings import NO_OLLAMA
from shared.status_server import HEALTHY, StatusServer
from shared.telemetry.logging import logger
from shared.usage.reader import UsageReader

log = logger("monitor")

COMPARE_AFTER_S = 1.0
"""Rates need two readings; so far apart are those of `--once`."""
COLLECTOR_LIMIT_S = 1.0
"""What a collector may take besides the model servers' own limit: Redis is given up after 2 s by itself."""


@asynccontextmanager
async def sampling(settings: MonitorSettings, queue: QueueClient) -> AsyncIterator[Sampler]:
    """A sampler and its connections to the model servers."""
    async with AsyncExitStack() as closing:
        settings.guard_egress()
        backends = [OllamaBackend(url) for url in settings.ollama_hosts]
        for backend in backends:
            closing.push_async_callback(backend.aclose)
        sampler = Sampler(
            host=HostCollector(settings.monitor_disk_paths),
            gpu=GpuCollector(),
            ollama=OllamaCollector(backends, settings.healthcheck_timeout),
            queue=QueueCollector(queue, settings.monitor_window),
            models=UsageCollector(UsageReader(queue.redis, queue.keys), settings.monitor_window),
            client=queue,
            limit_s=max(2.0, settings.healthcheck_timeout) + COLLECTOR_LIMIT_S,
        )
        closing.push_async_callback(sampler.stop)
        yield sampler


def channels(settings: MonitorSettings, session: aiohttp.ClientSession) -> list[Channel]:
    """Those that the settings name; none by default."""
    post = Post(session, settings.alert_delivery_timeout)
    found: list[Channel] = []
    if settings.alert_webhook_url:
        found.append(Webhook(post, settings.alert_webhook_url, webhook_key(settings.alert_webhook_secret)))
    if slack := settings.alert_slack_url.get_secret_value():
        found.append(Slack(post, slack))
    if settings.alertmanager_url:
        found.append(Alertmanager(post, settings.alertmanager_url))
    return found


async def run(settings: MonitorSettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    open_logs("monitor", settings)
    if not settings.ollama_hosts:
        log.info("monitor.no_hosts", reason=NO_OLLAMA)
    stop = StopSignal()
    stop.install()
    async with AsyncExitStack() as closing:
        queue = await QueueClient.connect(settings)
        closing.push_async_callback(queue.aclose)
        sampler = await closing.enter_async_context(sampling(settings, queue))
        session = await closing.enter_async_context(new_session())
        all_rules = rules(settings)
        metrics = MonitorMetrics(COLLECTORS, [(rule.name, str(rule.severity)) for rule in all_rules])
        ledger = Ledger(queue.redis, queue.keys, settings.name)
        teller = Teller(settings.name, channels(settings, session), ledger, metrics.deliveries)
        teller.start()
        closing.push_async_callback(teller.stop)
        watch = Watch(
            settings.name,
            sampler,
            all_rules,
            teller,
            metrics,
            interval_s=settings.monitor_interval,
            min_calls=settings.alert_min_calls,
        )
        # Before anyone asks; Redis and the model servers may come later.
        await watch.look()
        closing.push_async_callback(end_task, asyncio.create_task(watch.run(), name="rounds"))

        async def readiness() -> dict[str, str]:
            try:
                await queue.ping()
            except QueueUnavailable as error:
                return {"redis": error.message}
            return {"redis": HEALTHY}

        server = StatusServer(
            "monitor",
            metrics,
            readiness,
            pages=Pages(watch, settings.monitor_interval).all(),
            guard=PageGuard.on(queue.redis, settings.queue_shard, settings.monitor_host),
            identity={"monitor_id": settings.name} | ({} if settings.ollama_hosts else {"ollama": NO_OLLAMA}),
            metrics_enabled=settings.metrics_enabled,
        )
        await server.serve(settings.monitor_host, settings.monitor_port, stop)


async def print_once(settings: MonitorSettings) -> None:
    """Print one reading as JSON."""
    open_logs("monitor", settings)
    queue = await QueueClient.connect(settings)
    try:
        async with sampling(settings, queue) as sampler:
            await sampler.sample()
            await asyncio.sleep(COMPARE_AFTER_S)
            found = msgspec.json.encode(readings(await sampler.sample()))
    finally:
        await queue.aclose()
    print(msgspec.json.format(found, indent=2).decode())
