"""Makes .venv and installs Arriero into it, from the lock file and checked by hash. Only the standard library.

A stamp in .venv remembers what was installed, so that a second run only looks and returns.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = str(VENV / "bin" / "python")
STAMP = VENV / "arriero-setup.json"
LOCKS = {"run": ROOT / "requirements.lock", "dev": ROOT / "tests" / "requirements.lock"}
"""What the services need, and that plus what the tests and linters need."""
UV_OPTION = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "find-links": "UV_FIND_LINKS"}


class SetupFailed(Exception):
    """What went wrong and what to do about it, for the terminal."""


def say(text: str) -> None:
    print(f"setup: {text}", flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Print what is done and how long it took."""
    print(f"setup: {text} ...", end=" ", flush=True)
    begun = time.monotonic()
    try:
        yield
    except BaseException:
        print("failed", flush=True)
        raise
    print(f"{time.monotonic() - begun:.1f} s", flush=True)


def call(command: Sequence[str], hint: str, environment: dict[str, str] | None = None) -> None:
    """Run quietly. Raises SetupFailed with the command's output and `hint`."""
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode != 0:
        output = done.stdout.decode(errors="replace").strip()[-3000:]
        raise SetupFailed(f"`{' '.join(command)}` failed:\n{output}\n{hint}")


def fingerprint(lock: Path) -> str:
    """Changes whenever another installation would come out."""
    digest = hashlib.sha256(sys.version.encode())
    for path in (lock, ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def read_stamp() -> dict[str, str]:
    """What is installed; empty when nothing is, or when .venv was moved: its scripts name the place they started in."""
    try:
        stamp: dict[str, str] = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if stamp.get("root") == str(ROOT) else {}


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """`make run` and `make test` at the same time must not install over each other."""
    folder = ROOT / ".arriero"
    folder.mkdir(exist_ok=True)
    with (folder / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make_environment() -> None:
    """A .venv with pip. On Debian and Ubuntu, where venv is a package of its own, root gets it installed."""
    # From inside a .venv that has to go, the Python it was made from.
    base = getattr(sys, "_base_executable", sys.executable)
    with step(f"new environment in .venv with Python {sys.version.split()[0]}"):
        shutil.rmtree(VENV, ignore_errors=True)
        command, hint = [base, "-m", "venv", str(VENV)], "Remove .venv and try again."
        try:
            call(command, hint)
        except SetupFailed as failure:
            # Trying is the only sure test: Debian leaves out ensurepip, some Ubuntu releases only the wheels it needs.
            if "ensurepip" not in str(failure):
                raise
            install_venv_package()
            call(command, hint)


def install_venv_package() -> None:
    package = f"python3.{sys.version_info.minor}-venv"
    # Seen in the middle of a step's line.
    print(f"needs the package {package} ...", end=" ", flush=True)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SetupFailed(f"this Python cannot make environments. Run `sudo apt install {package}`, then try again.")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    hint = f"Install {package} by hand, then try again."
    call(["apt-get", "update"], hint, environment)
    call(["apt-get", "install", "--yes", "--no-install-recommends", package], hint, environment)


def uv_settings() -> dict[str, str]:
    """pip's settings in uv's words: uv does not read pip's files, and a mirror or a CA set there must count here."""
    listing = subprocess.run(
        [PYTHON, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    settings: dict[str, str] = {}
    for line in listing.splitlines():
        name, _, value = line.partition("=")
        option, value = name.rpartition(".")[2], value.strip("'\"").replace("\\n", " ").strip()
        if option in UV_OPTION:
            settings[UV_OPTION[option]] = ("," if option == "find-links" else " ").join(value.split())
        elif option == "cert":
            settings["SSL_CERT_FILE"] = value
    return settings | os.environ


def locked_lines(lock: Path, package: str) -> str:
    """The lock file's lines for one package, hashes included."""
    lines = iter(lock.read_text().splitlines(keepends=True))
    entry = [next(line for line in lines if line.startswith(f"{package}=="))]
    for line in lines:
        if not line.startswith(" "):
            break
        entry.append(line)
    return "".join(entry).rstrip("\\\n") + "\n"


def install_packages(lock: Path) -> None:
    """Everything in `lock`.

    uv, itself from the lock, takes a few seconds where pip takes half a minute; pip steps in where uv fails.
    """
    pip = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    hint = "Is the package index reachable? The same command goes on where this one stopped."
    count = sum("==" in line for line in lock.read_text().splitlines())
    name = lock.relative_to(ROOT)
    only_uv = VENV / "uv.lock"
    only_uv.write_text(locked_lines(lock, "uv"))
    try:
        with step("uv, the installer"):
            call([*pip, "--requirement", str(only_uv)], hint)
        with step(f"up to {count} packages from {name}"):
            uv = [str(VENV / "bin" / "uv"), "pip", "install", "--quiet", "--python", PYTHON, "--require-hashes"]
            call([*uv, "--requirement", str(lock)], hint, uv_settings())
    except SetupFailed as failure:
        say(f"uv could not do it, pip takes over. {failure}")
        with step(f"up to {count} packages from {name}, with pip"):
            call([*pip, "--requirement", str(lock)], hint)


def install_project() -> None:
    """Arriero itself, in place. The build tool comes from the lock, so nothing is downloaded here."""
    command = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
    with step("Arriero itself, in place"):
        call([*command, *options], "Remove .venv and try again.")


def has_pip() -> bool:
    return (
        Path(PYTHON).exists()
        and subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True).returncode == 0
    )


def set_up(kind: str) -> None:
    """Install what `kind` ("run" or "dev") needs, unless the stamp says that it is there."""
    wanted = fingerprint(LOCKS[kind])
    if read_stamp().get(kind) == wanted:
        return
    begun = time.monotonic()
    with one_at_a_time():
        stamp = read_stamp()
        if stamp.get(kind) == wanted:
            return
        moved = not stamp and STAMP.exists()
        if moved or not has_pip():
            make_environment()
        STAMP.unlink(missing_ok=True)
        install_packages(LOCKS[kind])
        install_project()
        # The packages of "run" are among those of "dev", in the same versions.
        kinds = LOCKS if kind == "dev" else [kind]
        STAMP.write_text(json.dumps({"root": str(ROOT), **{name: fingerprint(LOCKS[name]) for name in kinds}}))
    say(f"ready after {time.monotonic() - begun:.1f} s. It stays in .venv; the next run starts at once.")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dev", action="store_true", help="also what the tests and linters need")
    try:
        set_up("dev" if parser.parse_args().dev else "run")
    except SetupFailed as failure:
        print(f"setup: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("setup: interrupted; the same command starts over.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
