"""The log file: what goes in, when it is put aside, and that several processes can share it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.telemetry.log_file import LogFile, Rotation, expired
from shared.telemetry.logging import FileLog, configure_logging, logger
from tests.house.requirements import ROOT

LINES, WRITERS = 400, 3


@pytest.fixture
def _closed(restored_logs: None) -> Iterator[None]:
    yield
    configure_logging("tests")


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.req("S4-64")
@pytest.mark.usefixtures("_closed")
def test_console_and_file_have_levels_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "logs" / "app.log"
    configure_logging("worker", "WARNING", "console", FileLog(path, "DEBUG", Rotation(1 << 20, 3)))
    logger("t").debug("t.detail", size=1)
    logger("t").warning("t.trouble\x1b[31m", size=2)
    logging.getLogger("library").info("from %s library", "a")
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        logger("t").exception("t.failed")
    on_console = capsys.readouterr().err
    detail, trouble, library, failed = lines(path)
    assert (detail["event"], detail["level"], detail["service"]) == ("t.detail", "debug", "worker")
    assert trouble["event"] == "t.trouble\\x1b[31m"
    assert library["event"] == "from a library"
    assert "RuntimeError: boom" in str(failed["exception"])
    assert "t.detail" not in on_console
    assert "from a library" not in on_console
    assert "t.trouble" in on_console
    assert "RuntimeError: boom" in on_console


@pytest.mark.usefixtures("_closed")
def test_a_quiet_file_beside_a_talkative_console(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "app.log"
    configure_logging("worker", "DEBUG", "json", FileLog(path, "ERROR", Rotation(1 << 20, 3)))
    logger("t").info("t.usual")
    logger("t").error("t.bad")
    assert [line["event"] for line in lines(path)] == ["t.bad"]
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["t.usual", "t.bad"]


@pytest.mark.req("S4-65")
def test_put_aside_by_size_and_kept_by_count(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    file = LogFile(path, Rotation(max_bytes=100, backups=2))
    for number in range(40):
        file.write(f"{number:03} {'x' * 20}")
    file.close()
    file.close()
    assert sorted(found.name for found in tmp_path.glob("app.log*")) == [
        "app.log",
        "app.log.1",
        "app.log.2",
        "app.log.lock",
    ]
    kept = [
        line[:3]
        for name in ("app.log.2", "app.log.1", "app.log")
        for line in (tmp_path / name).read_text().splitlines()
    ]
    assert kept == [f"{number:03}" for number in range(28, 40)], "the newest, in order, none lost between the files"
    assert all(found.stat().st_size <= 100 for found in tmp_path.glob("app.log*"))


@pytest.mark.req("S4-65")
def test_kept_by_age(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    for number, age_s in ((1, 10), (2, 5000)):
        aside = tmp_path / f"app.log.{number}"
        aside.write_text("old\n")
        os.utime(aside, (time.time() - age_s,) * 2)
    LogFile(path, Rotation(max_bytes=100, backups=9, max_age_s=3600)).close()
    assert (tmp_path / "app.log.1").exists()
    assert not (tmp_path / "app.log.2").exists()


@given(
    ages=st.lists(st.floats(0, 1e6), max_size=20).map(sorted),
    backups=st.integers(0, 10),
    max_age_s=st.floats(0, 1e6),
)
def test_what_goes_is_too_old_or_too_much(ages: list[float], backups: int, max_age_s: float) -> None:
    gone = set(expired(ages, Rotation(1, backups, max_age_s)))
    for place, age_s in enumerate(ages):
        assert (place in gone) == (place >= backups or 0 < max_age_s < age_s)


WRITER = """
import json, sys
from pathlib import Path
from shared.telemetry.log_file import LogFile, Rotation
path, writer, lines = sys.argv[1:]
file = LogFile(Path(path), Rotation(max_bytes=2000, backups=1000))
for number in range(int(lines)):
    file.write(json.dumps({"writer": int(writer), "number": number, "text": "x" * 50}))
file.close()
"""


def test_processes_share_it(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen([*command, str(writer), str(LINES)], cwd=ROOT) for writer in range(WRITERS)]
    assert [process.wait(60) for process in writers] == [0] * WRITERS
    files = [found for found in tmp_path.glob("app.log*") if found.suffix != ".lock"]
    found = sorted((int(str(line["writer"])), int(str(line["number"]))) for file in files for line in lines(file))
    assert found == [(writer, number) for writer in range(WRITERS) for number in range(LINES)], "no line lost or torn"
    assert len(files) > 10


def test_a_full_disk_loses_lines_only(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "app.log", Rotation(max_bytes=1000, backups=1))
    with Path("/dev/full").open("wb") as full:
        os.dup2(full.fileno(), file._descriptor)
        file.write("lost")
    file.close()
