"""What is held back, what failed, and what was done about it?"""

from __future__ import annotations

from infra.grafana.panels import Dashboard, Panel, Query, Row, Variable

_CIRCUITS = Row(
    "Circuit breakers",
    (
        Panel(
            "Circuits",
            "Of hosts (`host`) and of an operation with a model there. Half open: one call tries whether it is well.",
            "short",
            (
                Query(
                    "max by (circuit, host) ("
                    'llm_worker_circuit_breaker_state{host=~"$host", state="half_open"} '
                    '+ ignoring (state) 2 * llm_worker_circuit_breaker_state{host=~"$host", state="open"})',
                    "{{circuit}} {{host}}",
                ),
            ),
            kind="state-timeline",
            width=16,
            height=9,
            states=((0.0, "closed", "green"), (1.0, "half open", "yellow"), (2.0, "open", "red")),
        ),
        Panel(
            "Open circuits",
            "In the whole fleet, by the monitor.",
            "none",
            (Query("max(arriero_monitor_circuits_open)", "open"),),
            height=9,
        ),
        Panel(
            "Changes of state",
            "That workers noticed. A circuit that opens again and again has a host that comes and goes.",
            "ops",
            (
                Query(
                    "sum by (circuit, host, to) (rate(llm_worker_circuit_breaker_transitions_total"
                    '{host=~"$host"}[$__rate_interval]))',
                    "{{circuit}} {{host}} to {{to}}",
                ),
            ),
            width=12,
        ),
        Panel(
            "Fallbacks",
            "Jobs served by another host than first tried, by a stand-in model, or from the cache.",
            "ops",
            (Query("sum by (step) (rate(llm_worker_fallbacks_total[$__rate_interval]))", "{{step}}"),),
            width=12,
        ),
    ),
)

_DEAD = Row(
    "Dead letters",
    (
        Panel(
            "Dead letters kept",
            "Until DEAD_LETTER_TTL, a replay or a purge.",
            "none",
            (Query("max(arriero_dead_letter_jobs)", "kept"),),
        ),
        Panel(
            "New dead letters",
            "Within five minutes.",
            "none",
            (Query('max(increase(arriero_queue_events_total{event="dead_lettered"}[5m]))', "new"),),
            steps=((10.0, "orange"),),
        ),
        Panel(
            "Jobs that failed for good, by model",
            "As the workers saw them end; poisonous jobs, which no worker survives, are not among them.",
            "ops",
            (
                Query(
                    'sum by (model) (rate(llm_worker_requests_total{status="dead_lettered"}[$__rate_interval]))',
                    "{{model}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Tries and replays",
            "Retried: after a pause, at the cost of a try. Replayed: a dead letter was run again.",
            "ops",
            (
                Query(
                    'max by (event) (rate(arriero_queue_events_total{event=~"retried|replayed|purged|expired"}'
                    "[$__rate_interval]))",
                    "{{event}}",
                ),
            ),
        ),
    ),
)

_OWNERSHIP = Row(
    "Ownership and alerts",
    (
        Panel(
            "Lost workers",
            "Runs lost with their worker; after three the job is set aside as poison.",
            "ops",
            (Query('max(rate(arriero_queue_events_total{event="crashed"}[$__rate_interval]))', "crashed"),),
        ),
        Panel(
            "Leases lost, writes refused",
            "A worker that was frozen or cut off from Redis. Its jobs went to others, its writes changed nothing.",
            "ops",
            (
                Query("sum(rate(llm_worker_lost_leases_total[$__rate_interval]))", "leases lost"),
                Query("sum(rate(llm_worker_stale_writes_total[$__rate_interval]))", "writes refused"),
            ),
        ),
        Panel(
            "The monitor's alerts",
            "Things that each alert fires for.",
            "none",
            (Query("max by (alert, severity) (arriero_alert_active) > 0", "{{alert}} ({{severity}})"),),
            stacked=True,
        ),
        Panel(
            "Alert messages",
            "By how their delivery ended.",
            "ops",
            (
                Query(
                    "sum by (channel, outcome) (rate(arriero_alert_deliveries_total[$__rate_interval]))",
                    "{{channel}} {{outcome}}",
                ),
            ),
        ),
        Panel(
            "Collectors of the monitor",
            "0 could not read its part last time; alerts that rest on it wait.",
            "none",
            (Query("min by (collector) (arriero_monitor_collector_up)", "{{collector}}"),),
        ),
        Panel(
            "Age of the monitor's readings",
            "Growing: the monitor hangs.",
            "s",
            (Query("time() - arriero_monitor_sample_timestamp_seconds", "{{instance}}"),),
        ),
    ),
)

FAILURES = Dashboard(
    "arriero-failures",
    "Arriero: breakers and dead letters",
    "What is held back, what failed, and what was done about it?",
    (_CIRCUITS, _DEAD, _OWNERSHIP),
    (Variable("host", "Model server", "llm_worker_circuit_breaker_state", "host"),),
)
