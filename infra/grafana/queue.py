"""Do jobs move, and who works on them?"""

from __future__ import annotations

from infra.grafana.panels import Dashboard, Panel, Query, Row, Variable

_QUEUE = Row(
    "Queue",
    (
        Panel(
            "Unfinished jobs",
            "Queued ones wait for a worker, scheduled ones for their time or their next try.",
            "none",
            (Query("max by (state) (arriero_queue_jobs)", "{{state}}"),),
            stacked=True,
        ),
        Panel(
            "Waiting by class",
            "High goes before normal before low, but none starves.",
            "none",
            (Query("max by (priority) (arriero_queue_waiting_jobs)", "{{priority}}"),),
            stacked=True,
        ),
        Panel(
            "Longest wait",
            "How long the job at the head of the queue has waited.",
            "s",
            (Query("max(arriero_queue_oldest_wait_seconds)", "longest wait"),),
            steps=((60.0, "orange"),),
        ),
        Panel(
            "What happens to jobs",
            "Counted by the queue itself. Crashed: a run was lost with its worker. Released: handed back at no cost.",
            "ops",
            (Query("max by (event) (rate(arriero_queue_events_total[$__rate_interval]))", "{{event}}"),),
            width=16,
        ),
        Panel(
            "Drain rate",
            "Jobs that end each second while others wait: what admission promises by.",
            "ops",
            (Query("max(arriero_queue_drain_per_second)", "drain rate"),),
        ),
        Panel(
            "Jobs handed in",
            "By what became of them at the door: accepted, duplicate, overloaded (429 or 503), refused (a fault).",
            "ops",
            (Query("sum by (outcome) (rate(arriero_gateway_jobs_total[$__rate_interval]))", "{{outcome}}"),),
            stacked=True,
        ),
        Panel(
            "Refused for want of room",
            "Share of all jobs, over five minutes.",
            "percentunit",
            (Query("arriero:jobs_overloaded:ratio_rate5m", "overloaded"),),
            steps=((0.05, "orange"),),
        ),
        Panel(
            "Jobs handed in by kind",
            "And by class: who asks for what.",
            "ops",
            (
                Query(
                    "sum by (kind, priority) (rate(arriero_gateway_jobs_total[$__rate_interval]))",
                    "{{kind}} {{priority}}",
                ),
            ),
            stacked=True,
        ),
    ),
)

_FLEET = Row(
    "Workers",
    (
        Panel(
            "Workers alive",
            "By heartbeat, and by Prometheus' own look. They differ while one starts, stops or hangs.",
            "none",
            (
                Query("max(arriero_queue_workers)", "heartbeat"),
                Query('sum(up{job="worker"})', "scraped"),
            ),
        ),
        Panel(
            "Slots",
            "All busy while jobs wait: more workers, or a higher WORKER_CONCURRENCY, if the model servers have room.",
            "none",
            (
                Query("max(arriero_monitor_worker_slots_busy)", "busy"),
                Query("max(arriero_monitor_worker_slots)", "all"),
            ),
        ),
        Panel(
            "Jobs under way",
            "By worker. Replicas may share a worker id, hence the instance.",
            "none",
            (Query('llm_worker_jobs_in_flight{worker_id=~"$worker"}', "{{worker_id}} {{instance}}"),),
            stacked=True,
        ),
        Panel(
            "Runs by how they ended",
            "A run that is retried or released is followed by another of the same job.",
            "ops",
            (
                Query(
                    'sum by (status) (rate(llm_worker_requests_total{worker_id=~"$worker"}[$__rate_interval]))',
                    "{{status}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Runs by worker",
            "Even, unless workers differ in slots.",
            "ops",
            (
                Query(
                    'sum by (worker_id, instance) (rate(llm_worker_requests_total{worker_id=~"$worker"}'
                    "[$__rate_interval]))",
                    "{{worker_id}} {{instance}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Wait of a job",
            "From its acceptance to its claim.",
            "s",
            tuple(
                Query(
                    f"histogram_quantile({share}, sum by (le) "
                    '(rate(llm_worker_queue_wait_seconds_bucket{worker_id=~"$worker"}[$__rate_interval])))',
                    name,
                )
                for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
            ),
        ),
        Panel(
            "Time of a run",
            "From its claim to its end.",
            "s",
            tuple(
                Query(
                    f"histogram_quantile({share}, sum by (le) "
                    '(rate(llm_worker_request_duration_seconds_bucket{worker_id=~"$worker"}[$__rate_interval])))',
                    name,
                )
                for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
            ),
        ),
        Panel(
            "Memory of workers",
            "Resident; flat under load.",
            "bytes",
            (Query('llm_worker_memory_usage_bytes{worker_id=~"$worker"}', "{{worker_id}} {{instance}}"),),
        ),
        Panel(
            "Uptime",
            "A saw is a worker that keeps ending.",
            "s",
            (Query('llm_worker_uptime_seconds{worker_id=~"$worker"}', "{{worker_id}} {{instance}}"),),
        ),
    ),
)

QUEUE = Dashboard(
    "arriero-queue",
    "Arriero: queue and workers",
    "Do jobs move, and who works on them?",
    (_QUEUE, _FLEET),
    (Variable("worker", "Worker", "llm_worker_uptime_seconds", "worker_id"),),
)
