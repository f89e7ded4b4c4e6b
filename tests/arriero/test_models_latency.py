"""docs/models-latency.md: its tables are what the arithmetic gives, its command prints what it shows.

python -m tests.arriero.test_models_latency      writes the command's outputs in the document anew
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.arriero.console_blocks import arguments, matches, rewritten, shape, shown
from tests.arriero.hardware import MACHINES, MODELS, TASKS, latency_table, memory_table, seconds, tokens_per_s
from tests.house.requirements import ROOT
from tests.integration.stack import Stack

DOCUMENT = ROOT / "docs" / "models-latency.md"
SIMULATED = ("--load-seconds", "0.5", "--first-token-seconds", "0.05", "--tokens-per-second", "200")
"""As the document says."""


@contextmanager
def simulated_stack() -> Iterator[Stack]:
    with Stack(simulator=SIMULATED) as stack:
        stack.gateway()
        stack.worker()
        stack.daemon("manager")
        stack.wait()
        yield stack


@pytest.mark.req("S3-44")
def test_the_table_of_latencies_is_what_the_arithmetic_gives() -> None:
    assert "\n".join(latency_table()) in DOCUMENT.read_text(encoding="utf-8"), "\n".join(latency_table())
    assert all(one.name in DOCUMENT.read_text(encoding="utf-8") for one in (*MODELS, *MACHINES, *TASKS))


@pytest.mark.req("S3-45")
def test_the_hardware_guide_has_the_arithmetic_for_both_kinds_and_names_settings_that_exist() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert "\n".join(memory_table()) in text, "\n".join(memory_table())
    assert {"## CPU only", "## GPU", "## How much memory", "## What to set"} <= set(text.splitlines())
    ours = re.findall(r"^\| (?:worker|manager) \| `(\w+)` \|", text, re.MULTILINE)
    assert len(ours) >= 4
    configuration = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert not [name for name in ours if f"| `{name}` |" not in configuration]


def test_the_arithmetic_by_hand() -> None:
    eight = next(model for model in MODELS if model.name.startswith("llama3.1"))
    # Keys and values of 32 layers, 8 heads, 128 numbers of two bytes.
    assert eight.cache_bytes_per_token == 131_072
    assert eight.weights_gb == pytest.approx(4.8)
    middling = MACHINES[1]
    assert tokens_per_s(eight, middling) == pytest.approx(46.5, rel=0.01)
    chat = TASKS[1]
    assert seconds(eight, middling, chat) == pytest.approx(500 * 16e9 / 30e12 + 200 / 46.5, rel=0.01)
    seventy = MODELS[-1]
    assert seconds(seventy, middling, chat) is None


@pytest.mark.req("S3-44", "S0-48")
@pytest.mark.timeout(120)
def test_the_command_prints_what_the_document_shows() -> None:
    commands = list(shown(DOCUMENT.read_text(encoding="utf-8")))
    assert len(commands) == 2
    with simulated_stack() as stack:
        for command in commands:
            found = stack.command(*arguments(command.command)).splitlines()
            expected = "\n".join(command.output).rstrip().splitlines()
            assert matches(expected, found), [shape(line) for line in found]


if __name__ == "__main__":
    with simulated_stack() as running:
        document = DOCUMENT.read_text(encoding="utf-8")
        DOCUMENT.write_text(rewritten(document, lambda words: running.command(*words)), encoding="utf-8")
