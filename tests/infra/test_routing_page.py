"""docs/routing.md is what the routing table says now."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.routing_table import SECTIONS
from infra.setup import routing_page


def test_the_page_is_up_to_date() -> None:
    assert routing_page.main(["--check"]) == 0, "`make routing` writes it anew"


def test_every_row_is_on_the_page() -> None:
    page = routing_page.page()
    for row in (row for rows in SECTIONS.values() for row in rows):
        assert f"| {row.rule} | {row.asks} | {row.goes} |" in page


def test_another_page_is_noticed_and_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(routing_page, "PAGE", tmp_path / "routing.md")
    assert routing_page.main(["--check"]) == 1
    assert "make routing" in capsys.readouterr().err
    assert routing_page.main([]) == 0
    assert routing_page.main(["--check"]) == 0
