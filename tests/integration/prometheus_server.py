"""A real Prometheus with the configuration and rules of infra/prometheus, quicker; and what it has seen."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from tests.house.redis_server import free_port
from tests.infra.prometheus_files import PROMETHEUS, RULE_FILES, quick
from tests.integration.processes import Program

INTERVAL = "1s"
LOOK_EVERY_S = 0.5


def is_installed() -> bool:
    return shutil.which("prometheus") is not None and shutil.which("promtool") is not None


class Prometheus(Program):
    """Scrapes every second. Addresses stand where the shipped configuration asks DNS; the rest is as it is shipped."""

    def __init__(
        self, folder: Path, targets: Mapping[str, list[str]], key_file: Path, thresholds: dict[str, str]
    ) -> None:
        """`targets`: job -> addresses. `thresholds`: alert -> one that a test can pass."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._http = httpx.Client(base_url=self.url, trust_env=False, timeout=10.0)
        super().__init__("prometheus", (), {}, folder, self.url + "/-/ready")
        config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL}
        config["rule_files"] = [str(folder / "rules" / "*.yml")]
        config["alerting"] = {}
        for job in config["scrape_configs"]:
            del job["dns_sd_configs"]
            job["static_configs"] = [{"targets": targets[job["job_name"]]}]
            if "authorization" in job:
                job["authorization"]["credentials_file"] = str(key_file)
        (folder / "rules").mkdir()
        for path in RULE_FILES:
            ours = {name: value for name, value in thresholds.items() if f"alert: {name}\n" in path.read_text()}
            (folder / "rules" / path.name).write_text(quick(path.read_text(), ours))
        self.config = folder / "prometheus.yml"
        self.config.write_text(yaml.safe_dump(config))
        self._command = [
            *("prometheus", f"--config.file={self.config}", f"--storage.tsdb.path={folder / 'data'}"),
            *(f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn", "--query.lookback-delta=10s"),
        ]

    def stop(self) -> None:
        super().stop()
        self._http.close()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples that it has now. Raises AssertionError for an expression that it does not understand."""
        answer = self._http.get("/api/v1/query", params={"query": expression})
        assert answer.status_code == 200, f"{expression}: {answer.text}"
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found

    def moved(self, selector: str) -> set[str]:
        """Names of all series so selected that ever had another value than 0."""
        return {
            series["metric"]["__name__"]
            for series in self.query(f"{selector}[1h]")
            if any(float(value) != 0 for _, value in series["values"])
        }


class Watch:
    """Asks Prometheus, again and again, for all expressions that have had no sample yet. A context manager."""

    def __init__(self, prometheus: Prometheus, expressions: Mapping[str, str]) -> None:
        """`expressions` by a name of theirs."""
        self._prometheus = prometheus
        self._waiting = dict(expressions)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")
        self.faults: list[str] = []

    @property
    def unseen(self) -> set[str]:
        return set(self._waiting)

    def has_seen(self, *names: str) -> bool:
        return not self.unseen & set(names)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            for name, expression in list(self._waiting.items()):
                try:
                    found = self._prometheus.query(expression)
                except AssertionError as error:
                    self.faults.append(f"{name}: {error}")
                    continue
                except httpx.HTTPError:  # it is busy; the next round asks again
                    continue
                if any(sample["value"][1] != "NaN" for sample in found):
                    del self._waiting[name]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()
