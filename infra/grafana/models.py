"""How do the models serve, where are they, and what do the GPUs do?"""

from __future__ import annotations

from infra.grafana.panels import Dashboard, Panel, Query, Row, Variable

_SERVING = Row(
    "Serving",
    (
        Panel(
            "Calls by model",
            "By the whole fleet, failed ones included; from the monitor.",
            "ops",
            (
                Query(
                    "sum by (model) (max by (model, operation) "
                    '(rate(arriero_model_requests_total{model=~"$model"}[$__rate_interval])))',
                    "{{model}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Failed calls",
            "Share over five minutes.",
            "percentunit",
            (Query('model:arriero_model_failures:ratio_rate5m{model=~"$model"}', "{{model}}"),),
            steps=((0.1, "red"),),
        ),
        Panel(
            "Time of a call, p95",
            "Over five minutes.",
            "s",
            (Query('model:arriero_model_duration_seconds:p95_rate5m{model=~"$model"}', "{{model}}"),),
            steps=((60.0, "orange"),),
        ),
        Panel(
            "Time to the first token, p95",
            "From the call of the model server; a model that must be loaded first shows here.",
            "s",
            (
                Query(
                    "histogram_quantile(0.95, sum by (model, le) "
                    '(rate(llm_worker_time_to_first_token_seconds_bucket{model=~"$model"}[$__rate_interval])))',
                    "{{model}}",
                ),
            ),
        ),
        Panel(
            "Tokens",
            "Read (prompt) and written (completion) each second, by all workers.",
            "ops",
            (Query("sum by (direction) (rate(llm_worker_tokens_total[$__rate_interval]))", "{{direction}}"),),
        ),
        Panel(
            "Health score",
            "0 to 100, of success, speed, use and availability; `arriero models show` has the parts.",
            "none",
            (Query('min by (model) (arriero_manager_model_score{model=~"$model"})', "{{model}}"),),
        ),
    ),
)

_HOSTS = Row(
    "Model servers",
    (
        Panel(
            "Answering",
            "By the monitors' and the managers' own look.",
            "short",
            (
                Query('max by (host) (arriero_ollama_host_up{host=~"$host"})', "{{host}}, monitor"),
                Query('max by (host) (arriero_manager_host_up{host=~"$host"})', "{{host}}, manager"),
            ),
            kind="state-timeline",
            states=((0.0, "down", "red"), (1.0, "up", "green")),
        ),
        Panel(
            "Round trip",
            "Of a request for the server's version.",
            "s",
            (Query('max by (host) (arriero_ollama_host_latency_seconds{host=~"$host"})', "{{host}}"),),
        ),
        Panel(
            "Models installed and loaded",
            "On disk and in memory.",
            "none",
            (
                Query('max by (host) (arriero_manager_models_installed{host=~"$host"})', "{{host}} installed"),
                Query('max by (host) (arriero_manager_models_loaded{host=~"$host"})', "{{host}} loaded"),
                Query("max(llm_worker_models_loaded)", "loaded, as the workers see it"),
            ),
        ),
        Panel(
            "Memory of loaded models",
            "By host. Above MODEL_MEMORY_THRESHOLD of a known limit the least used model is unloaded.",
            "bytes",
            (Query('max by (host) (arriero_manager_models_loaded_bytes{host=~"$host"})', "{{host}}"),),
        ),
        Panel(
            "Which models are loaded",
            "By their memory.",
            "bytes",
            (
                Query(
                    'max by (host, model) (arriero_manager_model_loaded_bytes{host=~"$host", model=~"$model"})',
                    "{{model}} on {{host}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Loads for a call",
            "How long calls waited for their model to load, p95. Many loads: too many models for the memory.",
            "s",
            (
                Query(
                    "histogram_quantile(0.95, sum by (model, le) "
                    '(rate(llm_worker_model_load_seconds_bucket{model=~"$model"}[$__rate_interval])))',
                    "{{model}}",
                ),
            ),
        ),
    ),
)

_MANAGER = Row(
    "Manager",
    (
        Panel(
            "Leader",
            "Exactly one manager leads.",
            "none",
            (Query("sum(arriero_manager_leader)", "leaders"),),
            width=6,
        ),
        Panel(
            "Operations",
            "Runs of load, unload, pull, update and delete, by how they ended.",
            "ops",
            (
                Query(
                    "sum by (op, outcome) (rate(arriero_manager_operations_total[$__rate_interval]))",
                    "{{op}} {{outcome}}",
                ),
            ),
            width=6,
            stacked=True,
        ),
        Panel(
            "Time of an operation, p95",
            "Over the last hour. An unload takes no time, a download an hour.",
            "s",
            (
                Query(
                    "histogram_quantile(0.95, sum by (op, le) "
                    "(increase(arriero_manager_operation_seconds_bucket[1h])))",
                    "{{op}}",
                ),
            ),
            width=6,
        ),
        Panel(
            "Downloads",
            "Bytes of models that the managers' pulls brought.",
            "Bps",
            (Query("sum(rate(arriero_manager_pull_bytes_total[$__rate_interval]))", "downloads"),),
            width=6,
        ),
        Panel(
            "Rounds of the leader",
            "Failed ones could not look or decide.",
            "ops",
            (Query("sum by (outcome) (rate(arriero_manager_turns_total[$__rate_interval]))", "{{outcome}}"),),
            width=6,
        ),
    ),
)

_GPUS = Row(
    "GPUs",
    (
        Panel(
            "Use",
            "Share of the time in which the GPU computed. Nothing is shown where there is no NVIDIA driver.",
            "percentunit",
            (Query("arriero_gpu_utilisation_ratio", "{{instance}} GPU {{gpu}}"),),
            width=6,
            steps=((0.98, "orange"),),
        ),
        Panel(
            "Memory",
            "Models, and the contexts of their slots.",
            "percentunit",
            (Query("arriero_gpu_memory_used_bytes / arriero_gpu_memory_total_bytes", "{{instance}} GPU {{gpu}}"),),
            width=6,
            steps=((0.95, "orange"),),
        ),
        Panel(
            "Temperature",
            "Above what its maker allows, a GPU slows itself down.",
            "celsius",
            (Query("arriero_gpu_temperature_celsius", "{{instance}} GPU {{gpu}}"),),
            width=6,
            steps=((85.0, "red"),),
        ),
        Panel(
            "Power",
            "What the GPU draws.",
            "watt",
            (Query("arriero_gpu_power_watts", "{{instance}} GPU {{gpu}}"),),
            width=6,
        ),
    ),
)

MODELS = Dashboard(
    "arriero-models",
    "Arriero: models and GPUs",
    "How do the models serve, where are they, and what do the GPUs do?",
    (_SERVING, _HOSTS, _MANAGER, _GPUS),
    (
        Variable("model", "Model", "arriero_model_requests_total", "model"),
        Variable("host", "Model server", "arriero_ollama_host_up", "host"),
    ),
)
