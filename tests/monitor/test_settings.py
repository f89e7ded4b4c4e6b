"""Settings of the monitor that cannot hold beside one another."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.settings import MonitorSettings
from shared.lifecycle import ConfigFault, read_settings

VARIABLES = ("ALERT_WEBHOOK_URL", "ALERT_SLACK_URL", "ALERTMANAGER_URL")
SECRET = "whsec_" + "a2tr" * 8


@pytest.fixture(autouse=True)
def _nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # no .env there
    monkeypatch.setenv("ALERT_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("AIRGAP_MODE", "true")


@pytest.mark.req("S3-22", "S3-31")
@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize(
    "url", ["https://hooks.slack.com/services/canary", "http://8.8.8.8/canary", "http://alerts.example.com:9093"]
)
def test_in_airgap_mode_alerts_go_to_nobody_outside(monkeypatch: pytest.MonkeyPatch, variable: str, url: str) -> None:
    monkeypatch.setenv(variable, url)
    with pytest.raises(ConfigFault) as caught:
        read_settings(MonitorSettings)
    (sentence,) = caught.value.args
    assert sentence.startswith(f"{variable}: ")
    assert "AIRGAP_ALLOWED_NETWORKS" in sentence
    assert url not in sentence and "canary" not in sentence
    monkeypatch.setenv("AIRGAP_MODE", "false")
    read_settings(MonitorSettings)


@pytest.mark.req("S3-31")
@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize(
    "url",
    ["http://alertmanager:9093", "http://10.1.2.3/x", "http://[::1]:1/x", "http://a.internal", "http://203.0.113.7"],
)
def test_and_to_local_addresses_they_do(monkeypatch: pytest.MonkeyPatch, variable: str, url: str) -> None:
    monkeypatch.setenv("AIRGAP_ALLOWED_NETWORKS", "203.0.113.0/24")
    monkeypatch.setenv(variable, url)
    read_settings(MonitorSettings)
