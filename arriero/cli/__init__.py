"""The `arriero` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point. Ends with 0 ok, 1 failed, 2 usage, 3 degraded, 69 service unavailable, 78 configuration."""
    # Imported here, so that a broken environment gives one line and not a traceback.
    from arriero.cli.app import app
    from arriero.cli.failures import report, reported

    try:
        app()
    except reported() as exc:
        sys.exit(report(exc))
    except BrokenPipeError:
        sys.exit(1)
