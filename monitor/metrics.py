"""The system monitor's metrics."""

from __future__ import annotations

from prometheus_client import Gauge

from monitor.host import HostSnapshot
from shared.queue.stats import QueueStats
from shared.telemetry.metrics import Metrics


class MonitorMetrics(Metrics):
    """Host and queue gauges, refreshed at each scrape."""

    def __init__(self) -> None:
        super().__init__()
        r = self.registry
        self.cpu = Gauge("arriero_monitor_cpu_percent", "Processor use over all cores, 0 to 100.", registry=r)
        self.memory = Gauge("arriero_monitor_memory_percent", "Memory in use, 0 to 100.", registry=r)
        self.memory_available = Gauge("arriero_monitor_memory_available_bytes", "Memory to be had, bytes.", registry=r)
        self.disk = Gauge("arriero_monitor_disk_percent", "Disk in use, 0 to 100.", registry=r)
        self.network = Gauge(
            "arriero_monitor_network_bytes", "Bytes since boot, by direction.", ["direction"], registry=r
        )
        self.queue_jobs = Gauge("arriero_monitor_queue_jobs", "Unfinished jobs by state.", ["state"], registry=r)
        self.queue_depth = Gauge("arriero_monitor_queue_depth", "Queued jobs by class.", ["priority"], registry=r)
        self.oldest_wait = Gauge(
            "arriero_monitor_queue_oldest_wait_seconds", "Seconds the longest waiting job has waited.", registry=r
        )
        self.workers = Gauge("arriero_monitor_workers", "Workers with a live heartbeat.", registry=r)
        self.redis_up = Gauge("arriero_monitor_redis_up", "1 while Redis answers, else 0.", registry=r)

    def update(self, host: HostSnapshot, queue: QueueStats | None) -> None:
        """`queue` None: Redis does not answer; the queue's gauges keep their last values, `redis_up` tells."""
        self.cpu.set(host.cpu_percent)
        self.memory.set(host.memory_percent)
        self.memory_available.set(host.memory_available_bytes)
        self.disk.set(host.disk_percent)
        self.network.labels("sent").set(host.network_sent_bytes)
        self.network.labels("received").set(host.network_received_bytes)
        self.redis_up.set(0 if queue is None else 1)
        if queue is None:
            return
        for state, count in queue.states.items():
            self.queue_jobs.labels(state).set(count)
        for priority, count in queue.queued_by_class.items():
            self.queue_depth.labels(priority).set(count)
        self.oldest_wait.set(queue.oldest_wait_s)
        self.workers.set(len(queue.workers))
