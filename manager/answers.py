"""What the manager's pages say: models, their use and scores, operations, plans. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from typing import Any

from manager.cleanup import CleanupPlan
from manager.inventory import HostInventory, by_model
from manager.scoring import HealthScore
from shared.model_names import same
from shared.operations.bodies import error_body, progress_body, result_body
from shared.operations.orders import Operation
from shared.usage.figures import Histogram, ModelUsage, OperationUsage
from shared.usage.figures import by_model as usage_by_model

Body = dict[str, Any]
PERCENTILES = {"p50_seconds": 0.5, "p95_seconds": 0.95, "p99_seconds": 0.99}


def models_body(
    hosts: Iterable[HostInventory],
    usage: Iterable[ModelUsage],
    pins: Collection[str],
    scores: Mapping[str, HealthScore],
) -> list[Body]:
    """Each model over all hosts. Times in seconds, `last_used_at` in Unix seconds, null for never."""
    used = usage_by_model(usage)
    found = []
    for places in by_model(hosts):
        name = same(places.name)
        total = used[name].total if name in used else OperationUsage()
        found.append(
            {
                **asdict(places),
                "pinned": name in pins,
                "calls": total.calls,
                "failures": total.failed,
                "p50_seconds": _seconds(total.latency.percentile_s(0.5)),
                "p95_seconds": _seconds(total.latency.percentile_s(0.95)),
                "last_used_at": (used[name].last_used_at or None) if name in used else None,
                "score": scores[name].score if name in scores else None,
            }
        )
    return found


def usage_body(usage: Iterable[ModelUsage]) -> list[Body]:
    """What was asked of each model on each host, by operation."""
    return [
        {
            "model": entry.model,
            "host": entry.host,
            "calls": entry.calls,
            "failures": entry.failures,
            "operations": {kind: _operation_usage(figures) for kind, figures in entry.operations.items()},
            "loads": entry.loads,
            "load_seconds": _seconds(entry.load_seconds),
            "last_used_at": entry.last_used_at or None,
        }
        for entry in usage
    ]


def _operation_usage(figures: OperationUsage) -> Body:
    return {
        "calls": figures.calls,
        "failures": dict(figures.failures),
        "latency": _spread(figures.latency),
        "first_token": _spread(figures.first_token),
        "tokens_in": figures.tokens_in,
        "tokens_out": figures.tokens_out,
    }


def _spread(histogram: Histogram) -> Body:
    percentiles = {name: _seconds(histogram.percentile_s(share)) for name, share in PERCENTILES.items()}
    return {"mean_seconds": _seconds(histogram.mean_s), **percentiles}


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def scores_body(scores: Mapping[str, HealthScore]) -> list[Body]:
    """Each model's score with the parts it is made of, the worst first."""
    ranked = sorted(scores.items(), key=lambda item: (item[1].score, item[0]))
    return [{"model": model, **asdict(score)} for model, score in ranked]


def plan_body(plan: CleanupPlan, *, dry_run: bool, operations: Iterable[str] = ()) -> Body:
    return {
        "dry_run": dry_run,
        "remove": [asdict(removal) for removal in plan.remove],
        "kept": [asdict(kept) for kept in plan.kept],
        "freed_bytes": plan.freed_bytes,
        "operations": list(operations),
    }


def operation_body(operation: Operation) -> Body:
    """An operation as it stands. `host` null: all hosts. Times in Unix seconds."""
    record, ordered = operation.record, operation.record.metadata
    return {
        "id": record.id,
        "object": "model.operation",
        "op": operation.op,
        "model": record.model,
        "host": operation.host or None,
        "status": record.state.value,
        "reason": ordered["reason"] or None,
        "by": ordered["by"],
        "created_at": record.created_at,
        "started_at": record.started_at,
        "finished_at": record.ended_at,
        "attempts": len(record.attempts),
        "progress": progress_body(operation.progress),
        "result": result_body(record),
        "error": error_body(record),
    }
