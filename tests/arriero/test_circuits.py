"""`arriero circuits` as a process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.arriero.test_cli import Command

NAME = "host:127.0.0.1:11434"


@pytest.mark.req("S1-49", "S3-28", "D-04")
async def test_hold_open_look_and_reset(tmp_path: Path, redis_url: str) -> None:
    arriero = Command(tmp_path)

    async def run(*arguments: str) -> str:
        done = await arriero("circuits", *arguments, REDIS_URL=redis_url)
        assert done.status == 0, done.err
        return done.out

    assert "all are closed" in await run("status")
    assert "for 10 min" in await run("force-open", NAME)
    (shown,) = json.loads(await run("status", "--json"))
    assert (shown["name"], shown["state"], shown["forced"]) == (NAME, "open", True)
    table = await run("status")
    assert NAME in table
    assert "forced" in table
    assert f"closed {NAME}" in await run("reset", NAME)
    assert json.loads(await run("force-open", NAME, "--for", "90s", "--json"))["retry_in_s"] == pytest.approx(90, abs=1)
    assert [view["state"] for view in json.loads(await run("reset", "--all", "--json"))] == ["closed"]


async def test_what_it_does_not_understand(tmp_path: Path, redis_url: str) -> None:
    arriero = Command(tmp_path)
    for arguments, says in (
        (("reset",), "--all"),
        (("reset", NAME, "--all"), "--all"),
        (("reset", NAME), "Nothing to reset"),
        (("force-open", NAME, "--for", "600"), "unit"),
        (("force-open", "llama2"), "chat:<model>@<host:port>"),
        (("force-open", NAME, "--for", "8d"), "604800"),
    ):
        done = await arriero("circuits", *arguments, REDIS_URL=redis_url)
        assert done.status != 0
        assert says in done.err
