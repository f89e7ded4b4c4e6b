"""A whole Arriero with a past, for the commands that look at it: chats, a dead letter, a pull."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.integration.processes import eventually
from tests.integration.stack import Stack, chat_body, ended, submit

PRELOADED = "mistral"


@contextmanager
def live_stack() -> Iterator[Stack]:
    """Gateway, worker, manager and monitor on a Redis that keeps a file, before a simulator."""
    redis = ("--appendonly", "yes")
    settings = {"MODEL_PRELOAD_LIST": PRELOADED, "MODEL_CLEANUP_AFTER": "60s", "MONITOR_INTERVAL": "1s"}
    # Quiet thresholds: the machine that runs the tests may well be busy.
    quiet = dict.fromkeys(("CPU_ALERT_THRESHOLD", "MEMORY_ALERT_THRESHOLD", "DISK_ALERT_THRESHOLD"), "100%")
    with Stack(redis=redis, simulator=("--pull-seconds", "0.5"), **settings, **quiet) as stack:
        stack.gateway()
        stack.worker(OLLAMA_MAX_RETRIES="1")
        stack.daemon("manager")
        stack.daemon("monitor")
        stack.wait()
        with stack.http() as client:
            for text in ("Why do llamas hum?", "What is an arriero?"):
                assert ended(client, submit(client, chat_body(text)))["status"] == "succeeded"
            stack.simulator.misbehave("status", status=500)
            assert ended(client, submit(client, chat_body("Too much")))["status"] == "dead_lettered"
            stack.simulator.behave()
        eventually(lambda: PRELOADED in loaded(stack), 20, "the preloaded model")
        eventually(lambda: _has_counted(stack), 20, "usage of all three jobs")
        yield stack


def loaded(stack: Stack) -> str:
    """Names of the loaded models."""
    models = json.loads(stack.run("models", "list", "--json").stdout)["models"]
    return " ".join(model["name"] for model in models if model["loaded_on"])


def _has_counted(stack: Stack) -> bool:
    models = json.loads(stack.run("models", "list", "--json").stdout)["models"]
    return any(model["calls"] == 3 for model in models)


def run(stack: Stack, arguments: Sequence[str]) -> str:
    """What a command prints on standard output, however it ends."""
    done = stack.run(*arguments)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout or done.stderr
