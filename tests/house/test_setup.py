"""The setup script's own decisions; that it really installs is shown by every run of `make test`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.setup import install
from tests.house.requirements import ROOT

SETUP = ROOT / "infra" / "setup"


def test_locked_lines_take_one_package_with_all_its_hashes(tmp_path: Path) -> None:
    lock = tmp_path / "some.lock"
    lock.write_text(
        "a==1 \\\n    --hash=sha256:aa\nuv==2 \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\nz==3 \\\n    --h\n"
    )
    assert install.locked_lines(lock, "uv") == "uv==2 \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The script at work on another tree; everything that would call out is noted in `calls` instead."""
    (tmp_path / "tests").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    locks = {"run": tmp_path / "requirements.lock", "dev": tmp_path / "tests" / "requirements.lock"}
    for path in locks.values():
        path.write_text("uv==2 \\\n    --hash=sha256:bb\n")
    monkeypatch.setattr(install, "ROOT", tmp_path)
    monkeypatch.setattr(install, "LOCKS", locks)
    monkeypatch.setattr(install, "STAMP", tmp_path / ".venv" / "arriero-setup.json")
    return tmp_path


@pytest.fixture
def done(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the script did, by the names of its steps."""
    steps: list[str] = []

    def note(name: str) -> Callable[..., None]:
        return lambda *_: steps.append(name)

    monkeypatch.setattr(install, "has_pip", lambda: True)
    for name in ("make_environment", "install_packages", "install_project"):
        monkeypatch.setattr(install, name, note(name))
    return steps


INSTALLED = ["install_packages", "install_project"]


def test_a_second_run_does_nothing(done: list[str]) -> None:
    install.set_up("run")
    assert done == INSTALLED
    install.set_up("run")
    assert done == INSTALLED


def test_what_the_tests_need_includes_what_the_services_need(done: list[str]) -> None:
    install.set_up("dev")
    install.set_up("run")
    assert done == INSTALLED


def test_the_services_alone_do_not_count_for_the_tests(done: list[str]) -> None:
    install.set_up("run")
    install.set_up("dev")
    assert done == INSTALLED * 2


@pytest.mark.parametrize("changed", ["requirements.lock", "pyproject.toml"])
def test_a_change_installs_again(done: list[str], elsewhere: Path, changed: str) -> None:
    install.set_up("run")
    (elsewhere / changed).write_text("uv==3 \\\n    --hash=sha256:dd\n")
    install.set_up("run")
    assert done == INSTALLED * 2


def test_a_moved_environment_is_made_anew(done: list[str]) -> None:
    install.set_up("run")
    install.STAMP.write_text(json.dumps(json.loads(install.STAMP.read_text()) | {"root": "/somewhere/else"}))
    install.set_up("run")
    assert done == [*INSTALLED, "make_environment", *INSTALLED]


def test_an_interrupted_installation_is_not_taken_for_done(done: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise install.SetupFailed("no network")

    install.set_up("run")
    monkeypatch.setattr(install, "install_project", fail)
    install.LOCKS["run"].write_text("uv==3 \\\n    --hash=sha256:dd\n")
    with pytest.raises(install.SetupFailed):
        install.set_up("run")
    assert install.read_stamp() == {}


@pytest.mark.parametrize(("message", "helped"), [("ensurepip is not available", True), ("disk full", False)])
def test_debians_missing_package_is_installed_and_the_environment_made_again(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, message: str, helped: bool
) -> None:
    called: list[str] = []

    def call(command: list[str], hint: str, environment: dict[str, str] | None = None) -> None:
        called.append(" ".join(command[:3]))
        if "venv" in command and not any(name.startswith("apt-get") for name in called):
            raise install.SetupFailed(message)

    monkeypatch.setattr(install, "VENV", elsewhere / ".venv")
    monkeypatch.setattr(install, "call", call)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    if helped:
        install.make_environment()
        assert [name.split()[-1] for name in called] == ["venv", "update", "--yes", "venv"]
    else:
        with pytest.raises(install.SetupFailed, match=message):
            install.make_environment()


def test_without_root_it_says_which_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(install.SetupFailed, match=r"sudo apt install python3\.\d+-venv"):
        install.install_venv_package()


def test_pip_steps_in_where_uv_fails(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    def call(command: list[str], hint: str, environment: dict[str, str] | None = None) -> None:
        called.append(Path(command[0]).name)
        if command[0].endswith("uv"):
            raise install.SetupFailed(hint)

    monkeypatch.setattr(install, "VENV", elsewhere / ".venv")
    monkeypatch.setattr(install, "call", call)
    install.install_packages(install.LOCKS["run"])
    assert called == ["python", "uv", "python"]


def test_pips_settings_reach_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    listing = "global.index-url='https://mirror/simple'\n:env:.find-links='/a /b'\ninstall.cert='/ca.pem'\n"
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, stdout=listing))
    for name in ("UV_DEFAULT_INDEX", "UV_FIND_LINKS", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    settings = install.uv_settings()
    assert settings["UV_DEFAULT_INDEX"] == "https://mirror/simple"
    assert settings["UV_FIND_LINKS"] == "/a,/b"
    assert settings["SSL_CERT_FILE"] == "/ca.pem"
    monkeypatch.setenv("SSL_CERT_FILE", "/mine.pem")
    assert install.uv_settings()["SSL_CERT_FILE"] == "/mine.pem"


def test_without_a_python_it_says_what_to_install(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "dirname", "cat"):
        found = next(path for path in map(Path, ("/bin", "/usr/bin")) if (path / tool).exists()) / tool
        (tools / tool).symlink_to(found)
    (tools / "python3").write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 && exit 0\nexit 1\n')
    (tools / "python3").chmod(0o755)
    copy = tmp_path / "infra" / "setup" / "setup.sh"
    copy.parent.mkdir(parents=True)
    copy.write_text((SETUP / "setup.sh").read_text())
    environment = os.environ | {"PATH": str(tools)}
    run = subprocess.run([tools / "sh", copy], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "needs Python 3.11 or later; here is Python 3.9.2" in run.stderr
    assert "apt install python3 python3-venv" in run.stderr
