"""Is all well, and how much is going on?"""

from __future__ import annotations

from infra.grafana.panels import Dashboard, Panel, Query, Row

_NOW = Row(
    "Now",
    (
        Panel(
            "Gateways",
            "Gateways that answer. None: nothing is accepted.",
            "none",
            (Query('sum(up{job="gateway"})'),),
            kind="stat", width=3, height=4,
        ),
        Panel(
            "Workers",
            "Workers with a live heartbeat. None: jobs are accepted, and wait.",
            "none",
            (Query("max(arriero_queue_workers)"),),
            kind="stat", width=3, height=4,
        ),
        Panel(
            "Model servers",
            "Model servers that answer a monitor.",
            "none",
            (Query("sum(max by (host) (arriero_ollama_host_up))"),),
            kind="stat", width=3, height=4,
        ),
        Panel(
            "Redis",
            "On while every gateway reaches Redis. Off: nothing is accepted.",
            "bool_on_off",
            (Query("min(arriero_redis_up)"),),
            kind="stat", width=3, height=4,
        ),
        Panel(
            "Jobs waiting",
            "Jobs that no worker has taken yet.",
            "none",
            (Query('max(arriero_queue_jobs{state="queued"})'),),
            kind="stat", width=3, height=4, steps=((500.0, "orange"),),
        ),
        Panel(
            "Longest wait",
            "How long the job at the head of the queue has waited.",
            "s",
            (Query("max(arriero_queue_oldest_wait_seconds)"),),
            kind="stat", width=3, height=4, steps=((60.0, "orange"),),
        ),
        Panel(
            "Answered 5xx",
            "Share of requests, over five minutes, that the gateways answered 5xx.",
            "percentunit",
            (Query("arriero:gateway_requests_5xx:ratio_rate5m"),),
            kind="stat", width=3, height=4, steps=((0.05, "red"),),
        ),
        Panel(
            "Alerts firing",
            "Alerts of Prometheus and, under its own names, of the monitor.",
            "none",
            (
                Query('count(ALERTS{alertstate="firing", alertname=~"Arriero.*"}) or vector(0)', "Prometheus"),
                Query("sum(max by (alert) (arriero_alert_active)) or vector(0)", "monitor"),
            ),
            kind="stat", width=3, height=4, steps=((1.0, "red"),),
        ),
    ),
)  # fmt: skip

_REQUESTS = Row(
    "Requests",
    (
        Panel(
            "Requests by route",
            "HTTP requests that the gateways answered.",
            "reqps",
            (Query("sum by (route) (rate(arriero_gateway_requests_total[$__rate_interval]))", "{{route}}"),),
            stacked=True,
        ),
        Panel(
            "Requests by status",
            "4xx is the callers' doing, 429 and 503 too many of them, other 5xx ours or the models'.",
            "reqps",
            (Query("sum by (status) (rate(arriero_gateway_requests_total[$__rate_interval]))", "{{status}}"),),
            stacked=True,
        ),
        Panel(
            "Time of an answer",
            "From the head of a request to the end of its answer, the model's work included.",
            "s",
            tuple(
                Query(
                    f"histogram_quantile({share}, sum by (le) "
                    '(rate(arriero_gateway_request_duration_seconds_bucket{route=~"/v1/.*"}[$__rate_interval])))',
                    name,
                )
                for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
            ),
        ),
        Panel(
            "Time to the first chunk",
            "What the user of a stream waits before anything appears: queue, model load and prompt together.",
            "s",
            tuple(
                Query(
                    f"histogram_quantile({share}, sum by (le) "
                    "(rate(arriero_gateway_first_chunk_seconds_bucket[$__rate_interval])))",
                    name,
                )
                for share, name in ((0.5, "p50"), (0.95, "p95"))
            ),
        ),
        Panel(
            "Under way",
            "What the gateways hold open now.",
            "none",
            (
                Query("sum(arriero_gateway_requests_in_flight)", "requests"),
                Query("sum(arriero_gateway_streams_open)", "streams"),
                Query("sum(arriero_gateway_connections)", "connections"),
            ),
        ),
        Panel(
            "Turned away",
            "Connections refused at MAX_CONNECTIONS or closed at HEADER_TIMEOUT, and jobs given up by their clients.",
            "ops",
            (
                Query("sum(rate(arriero_gateway_connections_refused_total[$__rate_interval]))", "refused"),
                Query("sum(rate(arriero_gateway_heads_timed_out_total[$__rate_interval]))", "slow heads"),
                Query("sum(rate(arriero_gateway_abandoned_total[$__rate_interval]))", "abandoned jobs"),
            ),
        ),
    ),
)

_MACHINES = Row(
    "Machines",
    (
        Panel(
            "Processors",
            "Use of what the machine or container may use.",
            "percentunit",
            (Query("arriero_host_cpu_ratio", "{{instance}}"),),
            width=6, steps=((0.8, "orange"),),
        ),
        Panel(
            "Memory",
            "In use, without what can be dropped at once; swap besides.",
            "percentunit",
            (
                Query("arriero_host_memory_used_bytes / arriero_host_memory_total_bytes", "{{instance}}"),
                Query(
                    "arriero_host_swap_used_bytes / clamp_min(arriero_host_swap_total_bytes, 1)", "{{instance}} swap"
                ),
            ),
            width=6, steps=((0.85, "red"),),
        ),
        Panel(
            "Disks",
            "Use of the file systems in MONITOR_DISK_PATHS.",
            "percentunit",
            (Query("arriero_host_disk_used_bytes / arriero_host_disk_total_bytes", "{{instance}} {{path}}"),),
            width=6, steps=((0.9, "red"),),
        ),
        Panel(
            "Load per processor",
            "Processes that ran or wanted to, per processor; above 1 some wait.",
            "none",
            (Query("arriero_host_load_average / arriero_host_cpu_cores", "{{instance}}"),),
            width=6,
        ),
        Panel(
            "Disk traffic",
            "Read from and written to all disks.",
            "Bps",
            (Query("rate(arriero_host_disk_io_bytes_total[$__rate_interval])", "{{instance}} {{direction}}"),),
        ),
        Panel(
            "Network traffic",
            "Received and sent, without the loopback.",
            "Bps",
            (Query("rate(arriero_host_network_bytes_total[$__rate_interval])", "{{instance}} {{direction}}"),),
        ),
        Panel(
            "Redis round trip",
            "Every claim, chunk and result pays this; a millisecond is much.",
            "s",
            (Query("arriero_redis_latency_seconds", "{{instance}}"),),
        ),
        Panel(
            "Redis memory",
            "Jobs, results and events. Near maxmemory new jobs are refused.",
            "bytes",
            (
                Query("max(arriero_monitor_redis_memory_used_bytes)", "used"),
                Query("max(arriero_queue_payload_bytes)", "requests of unfinished jobs"),
            ),
        ),
        Panel(
            "Memory of our processes",
            "Resident memory; flat under load.",
            "bytes",
            (Query('process_resident_memory_bytes{job=~"gateway|worker|manager|monitor"}', "{{job}} {{instance}}"),),
        ),
        Panel(
            "Processors our processes use",
            "1 is a whole processor.",
            "none",
            (
                Query(
                    'rate(process_cpu_seconds_total{job=~"gateway|worker|manager|monitor"}[$__rate_interval])',
                    "{{job}} {{instance}}",
                ),
            ),
        ),
    ),
)  # fmt: skip

OVERVIEW = Dashboard(
    "arriero-overview",
    "Arriero: overview",
    "Is all well, and how much is going on? Requests, machines, Redis.",
    (_NOW, _REQUESTS, _MACHINES),
)
