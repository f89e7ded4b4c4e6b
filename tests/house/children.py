"""Child processes that end with whoever started them, whatever happens to it. For programs, not for pytest: the hook
that runs in the child wants a parent without threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.house.requirements import ROOT

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def spawn(command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a program in this checkout, with its output in `log` and `env` added to our environment.

    It has a session of its own, so that a Ctrl-C reaches it through us alone.
    """
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=ROOT,
            start_new_session=True,
            preexec_fn=_prepare if sys.platform == "linux" else None,
        )


def last_words(log: Path) -> str:
    """The end of a log in one line, for messages."""
    return " / ".join(log.read_text(errors="replace").strip().splitlines()[-4:])[-800:]


def _prepare() -> None:
    """Runs in the child. Linux ends it when its parent is killed and cannot do so itself; a file that may not grow is
    an error to its writer, like a full disk, and no signal.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
