"""`X_FILE` names the file that holds the secret `X`."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from arriero.settings import CommandSettings
from shared.settings import BaseServiceSettings


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("hush\n")
    return path


def test_the_file_is_read_without_its_line_break(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_PASSWORD_FILE", str(secret))
    assert BaseServiceSettings().redis_password.get_secret_value() == "hush"


def test_the_command_s_key_comes_in_a_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = f"ark_{'a' * 12}_{'b' * 40}"
    (tmp_path / "key").write_text(key + "\n")
    monkeypatch.setenv("ARRIERO_API_KEY_FILE", str(tmp_path / "key"))
    assert CommandSettings().arriero_api_key.get_secret_value() == key


def test_the_variable_itself_wins(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_PASSWORD_FILE", str(secret))
    monkeypatch.setenv("REDIS_PASSWORD", "other")
    assert BaseServiceSettings().redis_password.get_secret_value() == "other"


@pytest.mark.parametrize(("content", "fault"), [(None, "cannot be read"), ("", "is empty"), ("\n", "is empty")])
def test_a_file_that_holds_nothing_is_a_fault_that_names_variable_and_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, fault: str
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("REDIS_PASSWORD_FILE", str(path))
    with pytest.raises(ValidationError, match=f"REDIS_PASSWORD_FILE: {path} {fault}"):
        BaseServiceSettings()
