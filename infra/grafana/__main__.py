"""`python -m infra.grafana` writes the dashboards' JSON; with `--check` it says which files differ, and ends with 1."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from infra.grafana.failures import FAILURES
from infra.grafana.models import MODELS
from infra.grafana.overview import OVERVIEW
from infra.grafana.panels import Dashboard, document
from infra.grafana.queue import QUEUE

DASHBOARDS: tuple[Dashboard, ...] = (OVERVIEW, QUEUE, MODELS, FAILURES)
FOLDER = Path(__file__).parent / "dashboards"


def text(dashboard: Dashboard) -> str:
    """The whole file."""
    return json.dumps(document(dashboard), indent=2) + "\n"


def differing(folder: Path = FOLDER) -> list[str]:
    """Names of files that are not what the descriptions say: other, missing, or nobody's."""
    wanted = {f"{dashboard.uid}.json": text(dashboard) for dashboard in DASHBOARDS}
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def main(arguments: Sequence[str]) -> int:
    if "--check" in arguments:
        for name in differing():
            print(f"infra/grafana/dashboards/{name} differs; `make dashboards` writes it anew", file=sys.stderr)
        return int(bool(differing()))
    FOLDER.mkdir(exist_ok=True)
    for dashboard in DASHBOARDS:
        (FOLDER / f"{dashboard.uid}.json").write_text(text(dashboard), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
