"""A worker or gateway of the release before: it writes, and reads, jobs of the former schema version only."""

from __future__ import annotations

import os
import runpy

from shared.wire import codec

MODULE = "tests.chaos.former_release"
FORMER = codec.SCHEMA_VERSION - 1


def env(service: str) -> dict[str, str]:
    """For the process that `python -m tests.chaos.former_release` becomes."""
    return {"FORMER_SERVICE": service}


if __name__ == "__main__":
    codec.SCHEMA_VERSION = FORMER
    runpy.run_module(os.environ["FORMER_SERVICE"], run_name="__main__", alter_sys=True)
