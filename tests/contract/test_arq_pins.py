"""What we rely on inside arq, pinned: another source there means looking again at our side of the seam."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import arq.connections
import arq.constants
import arq.worker
import pytest
from arq.cron import CronJob, cron, next_cron

from shared.queue.engine import QueueWorker
from tests.house.requirements import ROOT

PINS: dict[str, tuple[Callable[..., Any], str, str]] = {
    "Worker.__init__": (
        arq.worker.Worker.__init__,
        "d6a9394abdb57cc4",
        "our constructor passes max_jobs, poll_delay, job_completion_wait, handle_signals; reads tasks, loop",
    ),
    "Worker.async_run": (
        arq.worker.Worker.async_run,
        "46cb47b608d32802",
        "worker/app.py runs it, and our close() waits for main_task",
    ),
    "Worker.main": (
        arq.worker.Worker.main,
        "0ecb21ce3368eccd",
        "our main() calls it again while Redis is away before the first claim",
    ),
    "Worker._poll_iteration": (
        arq.worker.Worker._poll_iteration,
        "489ccd5a28868742",
        "ours replaces it: claiming in one call",
    ),
    "Worker.start_jobs": (
        arq.worker.Worker.start_jobs,
        "a38f54558b8cd0e0",
        "nothing calls it any more; ours is Runs.start()",
    ),
    "Worker.run_job": (arq.worker.Worker.run_job, "3ba41d10a68f7bcc", "nothing calls it any more; ours is in Runs"),
    "Worker.finish_job": (
        arq.worker.Worker.finish_job,
        "93bb5bdcf65892e5",
        "nothing calls it any more; settle.lua ends jobs",
    ),
    "Worker.close": (
        arq.worker.Worker.close,
        "d14f94e939753f5e",
        "ours replaces it: hands jobs back, then closes both pools",
    ),
    "Worker.handle_sig": (
        arq.worker.Worker.handle_sig,
        "c2b96e67b9157b33",
        "our close() and the second signal call it to cancel every task",
    ),
    "Worker.handle_sig_wait_for_completion": (
        arq.worker.Worker.handle_sig_wait_for_completion,
        "1b81b6b366fbb319",
        "ours wraps it: the first signal must set allow_pick_jobs and wait",
    ),
    "Worker._wait_for_tasks_to_complete": (
        arq.worker.Worker._wait_for_tasks_to_complete,
        "e507e061554955c0",
        "it bounds the drain and then cancels tasks and main_task; drained jobs are released by their cancellation",
    ),
    "Worker._sleep_until_tasks_complete": (
        arq.worker.Worker._sleep_until_tasks_complete,
        "2eb4b894dc74b709",
        "the drain ends when self.tasks is empty; Runs empties it",
    ),
    "Worker._add_signal_handler": (
        arq.worker.Worker._add_signal_handler,
        "75ae10d414c5aae5",
        "it hands our handlers the signal's number",
    ),
    "Worker.heart_beat": (
        arq.worker.Worker.heart_beat,
        "f2efb4160140423a",
        "our poll iteration calls it when there are cron jobs; it calls run_cron with the time",
    ),
    "Worker.run_cron": (
        arq.worker.Worker.run_cron,
        "51813539106e3366",
        "ours replaces it: it enqueues through ArqRedis.enqueue_job, which our queue does not read",
    ),
    "Worker.record_health": (
        arq.worker.Worker.record_health,
        "f9fd382757f5f327",
        "ours is empty; heartbeats replace it",
    ),
    "ArqRedis.__init__": (
        arq.connections.ArqRedis.__init__,
        "3dc94543b847f7bc",
        "connect() passes pool, serializers and queue name, and arq must not fall back to pickle",
    ),
    "log_redis_info": (
        arq.connections.log_redis_info,
        "6415f1bba78e4eed",
        "main() calls it; the ACL file allows INFO and DBSIZE for it",
    ),
    "func": (arq.worker.func, "f44ddaf9b8a2bdbb", "our constructor names the job functions with it"),
    "cron": (
        cron,
        "0a1f968cdb4e0e05",
        "CronEntry.as_arq() makes arq's entries with it",
    ),
    "CronJob.calculate_next": (
        CronJob.calculate_next,
        "f339f479d37b409f",
        "Schedule.turn() reads next_run after it, in the time zone it was given",
    ),
    "next_cron": (next_cron, "cab544d81f2da143", "the second it finds is part of a run's id"),
    "Retry.__init__": (arq.worker.Retry.__init__, "df55d563111a3cee", "_outcome() reads defer_score as milliseconds"),
}
CONSTANTS = {"job_key_prefix": "arq:job:", "result_key_prefix": "arq:result:", "default_queue_name": "arq:queue"}


def fingerprint(function: Callable[..., Any]) -> str:
    return sha256(textwrap.dedent(inspect.getsource(function)).encode()).hexdigest()[:16]


def test_arq_is_the_release_we_subclass() -> None:
    assert version("arq") == "0.28.0", "read arq's changelog, then each line of PINS, before raising this"


@pytest.mark.parametrize("name", PINS)
def test_a_part_we_rely_on_is_unchanged(name: str) -> None:
    function, expected, look_again = PINS[name]
    assert fingerprint(function) == expected, f"arq's {name} changed. Look again: {look_again}."


@pytest.mark.parametrize("name", CONSTANTS)
def test_stored_keys_keep_arqs_names(name: str) -> None:
    assert getattr(arq.constants, name) == CONSTANTS[name], f"{name}: jobs already in Redis would not be found"


def test_what_we_override_exists_to_be_overridden() -> None:
    ours = {name for name, value in vars(QueueWorker).items() if inspect.isfunction(value)}
    overridden = {name for name in ours if hasattr(arq.worker.Worker, name)}
    assert overridden == {
        "__init__", "main", "record_health", "handle_sig_wait_for_completion", "close", "_poll_iteration", "run_cron",
    }  # fmt: skip


def imported_modules(path: Path) -> set[str]:
    """Top-level names of everything a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


PRODUCT = ("arriero", "gateway", "infra", "manager", "monitor", "shared", "worker")
SOURCES = [path for package in PRODUCT for path in (ROOT / package).rglob("*.py")]


def test_nothing_outside_of_the_queue_imports_arq() -> None:
    users = {str(path.relative_to(ROOT)) for path in SOURCES if "arq" in imported_modules(path)}
    assert users, "the queue is built on arq, so this test looks in the wrong place"
    assert {path for path in users if not path.startswith("shared/queue/")} == set()


def test_nothing_can_unpickle() -> None:
    unsafe = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"}
    assert [str(path) for path in SOURCES if imported_modules(path) & unsafe] == []
