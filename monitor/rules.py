"""The alert rules: a table over the settings."""

from __future__ import annotations

from dataclasses import replace

from monitor.alerts import Place, Rule, Severity
from monitor.settings import MonitorSettings
from monitor.signals import CIRCUIT_STATES
from shared.resilience.breaker import BreakerState

WARNING, CRITICAL = Severity.WARNING, Severity.CRITICAL
HOST, FLEET = Place.HOST, Place.FLEET
REDIS_MEMORY_WARNING, REDIS_MEMORY_CRITICAL = 0.8, 0.95
"""Shares of Redis' maxmemory. In between the gateways begin to refuse jobs (MAX_REDIS_MEMORY_PERCENT)."""


def rules(settings: MonitorSettings) -> tuple[Rule, ...]:
    """All rules, by the order in which they are shown."""
    s = settings

    def above(
        name: str,
        source: str,
        metric: str,
        threshold: float,
        severity: Severity,
        place: Place,
        summary: str,
        unit: str,
        for_s: float = s.alert_duration,
    ) -> Rule:
        return Rule(
            name=name,
            metric=metric,
            source=source,
            threshold=threshold,
            clear_at=threshold * (1 - s.alert_hysteresis),
            for_s=for_s,
            clear_for_s=s.alert_clear_duration,
            severity=severity,
            place=place,
            summary=summary,
            unit=unit,
        )

    def while_so(name: str, source: str, severity: Severity, summary: str) -> Rule:
        return Rule(
            name=name,
            metric=name,
            source=source,
            threshold=1,
            clear_at=1,
            for_s=s.alert_duration,
            clear_for_s=s.alert_clear_duration,
            severity=severity,
            place=FLEET,
            summary=summary,
        )

    of = "{value} (threshold {threshold})"
    return (
        while_so("redis_down", "redis", CRITICAL, "Redis does not answer"),
        while_so("workers_gone", "queue", CRITICAL, "No worker is alive"),
        while_so("ollama_all_down", "ollama", CRITICAL, "No model server answers"),
        while_so("ollama_host_down", "ollama", WARNING, "The model server {about} does not answer"),
        while_so("model_missing", "queue", CRITICAL, "Jobs want the model {about}, which no host has"),
        # At once, since a circuit opens only after many failures; while it is half open the alert goes on.
        replace(
            while_so("circuit_open", "circuits", WARNING, "The circuit {about} is {value}"),
            for_s=0.0, clear_at=CIRCUIT_STATES[BreakerState.HALF_OPEN], unit="circuit",
        ),
        above("model_slow", "models", "model_p95_s", s.latency_p95_alert_threshold, WARNING, FLEET,
              f"Calls of {{about}} take {of} at the 95th percentile", "s"),
        above("model_failing", "models", "model_error_ratio", s.error_rate_alert_threshold, CRITICAL, FLEET,
              f"Calls of {{about}} fail: {of}", "ratio"),
        above("queue_backlog", "queue", "queue_waiting", s.queue_backlog_alert_threshold, WARNING, FLEET,
              f"Jobs wait: {of}", ""),
        above("queue_delay", "queue", "queue_oldest_wait_s", s.queue_delay_alert_threshold, WARNING, FLEET,
              f"The longest waiting job has waited {of}", "s"),
        above("dead_letters", "queue", "dead_letters_new", s.dead_letter_alert_threshold, WARNING, FLEET,
              f"Jobs failed for good: {of}", ""),
        above("redis_memory", "queue", "redis_memory_ratio", REDIS_MEMORY_WARNING, WARNING, FLEET,
              f"Redis uses {of} of its maxmemory", "ratio"),
        above("redis_full", "queue", "redis_memory_ratio", REDIS_MEMORY_CRITICAL, CRITICAL, FLEET,
              f"Redis uses {of} of its maxmemory; new jobs are refused, or soon will be", "ratio"),
        above("cpu", "host", "cpu_ratio", s.cpu_alert_threshold, WARNING, HOST, f"Processor use is {of}", "ratio"),
        above("memory", "host", "memory_ratio", s.memory_alert_threshold, CRITICAL, HOST, f"Memory use is {of}",
              "ratio"),
        above("disk", "host", "disk_ratio", s.disk_alert_threshold, CRITICAL, HOST,
              f"The disk of {{about}} is full to {of}", "ratio"),
        above("gpu", "gpu", "gpu_ratio", s.gpu_alert_threshold, WARNING, HOST,
              f"GPU {{about}} is in use {of} of the time", "ratio", s.alert_gpu_duration),
        above("gpu_memory", "gpu", "gpu_memory_ratio", s.gpu_memory_alert_threshold, WARNING, HOST,
              f"The memory of GPU {{about}} is full to {of}", "ratio"),
        above("gpu_temperature", "gpu", "gpu_temperature_celsius", s.gpu_temperature_alert_threshold, WARNING, HOST,
              f"GPU {{about}} has {of}", "celsius"),
    )  # fmt: skip
