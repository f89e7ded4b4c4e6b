"""The `arriero` command."""

from __future__ import annotations

import io
import sys


def main() -> None:
    """Entry point. Ends with 0 ok, 1 failed, 2 usage, 3 degraded, 69 unavailable, 78 configuration, 130 interrupted."""
    try:
        sys.exit(_run())
    except KeyboardInterrupt:
        sys.exit(130)


def _run() -> int:
    # Imported here, so that a broken environment gives one line, and Ctrl-C meanwhile nothing.
    from arriero.cli.app import app
    from arriero.cli.failures import EXIT_USAGE, report, reported

    # Python lets bytes that are no text through as surrogates; they would fail later, wherever they are sent.
    if any(map(_is_mangled, sys.argv)):
        sys.stderr.write("arriero: an argument is not UTF-8 text\n")
        return EXIT_USAGE
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="strict")
    try:
        app()
    except reported() as exc:
        return report(exc)
    except BrokenPipeError:
        return 1
    return 0


def _is_mangled(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return True
    return False
