"""What the system monitor reads from its environment."""

from __future__ import annotations

import base64
import binascii
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from shared.secret_files import read_secret_files
from shared.services.config import PRIVATE_DOMAINS, looks_ours
from shared.settings import BaseServiceSettings, NameList, Ratio, Seconds

SECRET_PREFIX = "whsec_"
SECRET_BYTES = (24, 64)
"""How long a key may be, as Standard Webhooks has it."""


class MonitorSettings(BaseServiceSettings):
    """The system monitor's settings. A share is written 0.85, 85 or 85%."""

    monitor_host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address the system monitor listens on. Others than loopback need an API key to exist.",
    )
    monitor_port: int = Field(
        default=3010, ge=0, le=65535, description="Port the system monitor listens on; 0: any free one."
    )
    monitor_id: str = Field(
        "", pattern=r"^[A-Za-z0-9_.-]{0,64}$", description="Name of this monitor in alerts; empty: the machine's."
    )
    monitor_interval: Seconds = Field(5.0, ge=0.2, le=300, description="Time between two readings, seconds.")
    monitor_window: Seconds = Field(
        300.0, ge=1, le=3600, description="Time over which rates, percentiles and error rates are taken, seconds."
    )
    monitor_disk_paths: NameList = Field(
        default_factory=lambda: ["/"],
        description="Paths whose file systems are watched, comma-separated: where Redis and the models lie.",
    )

    cpu_alert_threshold: Ratio = Field(0.8, description="Processor use that raises an alert; a share.")
    memory_alert_threshold: Ratio = Field(0.85, description="Memory use that raises an alert; a share.")
    disk_alert_threshold: Ratio = Field(0.9, description="Use of a watched disk that raises an alert; a share.")
    gpu_alert_threshold: Ratio = Field(0.98, description="GPU use that raises an alert; a share.")
    gpu_memory_alert_threshold: Ratio = Field(0.95, description="Use of GPU memory that raises an alert; a share.")
    gpu_temperature_alert_threshold: float = Field(
        85.0, gt=0, le=150, description="Temperature of a GPU that raises an alert, degrees Celsius."
    )
    queue_backlog_alert_threshold: int = Field(500, ge=1, description="Waiting jobs that raise an alert.")
    queue_delay_alert_threshold: Seconds = Field(
        60.0, gt=0, description="Wait of the longest waiting job that raises an alert, seconds."
    )
    latency_p95_alert_threshold: Seconds = Field(
        60.0, gt=0, description="95th percentile of a model's call times that raises an alert, seconds."
    )
    error_rate_alert_threshold: Ratio = Field(
        0.1, description="Share of a model's calls that fail by its or its host's fault that raises an alert; a share."
    )
    dead_letter_alert_threshold: int = Field(
        10, ge=1, description="New dead letters within MONITOR_WINDOW that raise an alert."
    )
    alert_min_calls: int = Field(
        20, ge=1, description="Calls within MONITOR_WINDOW before a model's times and failures can raise an alert."
    )
    alert_duration: Seconds = Field(
        60.0, ge=0, le=86400, description="How long a threshold must be passed before its alert fires, seconds."
    )
    alert_clear_duration: Seconds = Field(
        60.0, ge=0, le=86400, description="How long all must be well before an alert is over, seconds."
    )
    alert_gpu_duration: Seconds = Field(
        900.0,
        ge=0,
        le=86400,
        description="As ALERT_DURATION, for GPU use: a busy GPU is what it is there for, seconds.",
    )
    alert_hysteresis: Ratio = Field(
        0.1, description="How far below its threshold a value must fall for the alert to end, a share of the threshold."
    )

    alert_webhook_url: str = Field(
        "", description="Where alerts are posted, signed (Standard Webhooks). Empty: nowhere."
    )
    alert_webhook_secret: SecretStr = Field(
        SecretStr(""), description="Key of the signature: whsec_ and base64 of 24 to 64 bytes."
    )
    alert_webhook_secret_file: str = Field(
        "", description="File that holds that key; read when ALERT_WEBHOOK_SECRET is empty."
    )
    alert_slack_url: SecretStr = Field(
        SecretStr(""), description="Slack's incoming webhook, or one that takes the same. Empty: none."
    )
    alert_slack_url_file: str = Field(
        "", description="File that holds that address; read when ALERT_SLACK_URL is empty."
    )
    alertmanager_url: str = Field(
        "", description="Prometheus Alertmanager that is told of alerts, such as http://alertmanager:9093. Empty: none."
    )
    alert_delivery_timeout: Seconds = Field(
        5.0, gt=0, le=60, description="Limit on one try to deliver an alert, seconds."
    )

    @property
    def name(self) -> str:
        """MONITOR_ID, or what stands in for it."""
        return self.monitor_id or socket.gethostname()

    @model_validator(mode="before")
    @classmethod
    def _alert_secrets_from_files(cls, values: Any) -> Any:
        return read_secret_files(
            values,
            {"alert_webhook_secret": "alert_webhook_secret_file", "alert_slack_url": "alert_slack_url_file"},
        )

    @field_validator("alert_webhook_url", "alertmanager_url", "alert_slack_url")
    @classmethod
    def _check_url(cls, value: str | SecretStr) -> str | SecretStr:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if text and not (urlsplit(text).scheme in ("http", "https") and urlsplit(text).hostname):
            raise ValueError("expected an address such as https://example.org/alerts, or nothing")
        return value

    @field_validator("alert_webhook_secret")
    @classmethod
    def _check_secret(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            webhook_key(value)
        return value

    def conflicts(self) -> Iterator[str]:
        yield from super().conflicts()
        if self.alert_webhook_url and not self.alert_webhook_secret.get_secret_value():
            yield (
                "ALERT_WEBHOOK_URL: needs ALERT_WEBHOOK_SECRET too, by which the receiver knows that a message is "
                f"ours; give both the output of `echo {SECRET_PREFIX}$(openssl rand -base64 32)`."
            )
        receivers = {
            "ALERT_WEBHOOK_URL": self.alert_webhook_url,
            "ALERT_SLACK_URL": self.alert_slack_url.get_secret_value(),
            "ALERTMANAGER_URL": self.alertmanager_url,
        }
        for variable, url in receivers.items():
            if url and self.inside is not None and not looks_ours(url, self.inside):
                # The address stays out of the text: Slack's is a secret.
                yield (
                    f"{variable}: in AIRGAP_MODE alerts go to local addresses only; this one may be anybody's. Write "
                    "a local number (AIRGAP_ALLOWED_NETWORKS adds to them), or a name without a dot or in "
                    f"{', '.join(PRIVATE_DOMAINS)}; or leave it out."
                )


def webhook_key(secret: SecretStr) -> bytes:
    """The bytes that sign. Raises ValueError for a secret of another form."""
    text = secret.get_secret_value()
    try:
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    least, most = SECRET_BYTES
    if not text.startswith(SECRET_PREFIX) or not least <= len(key) <= most:
        raise ValueError(f"expected {SECRET_PREFIX} and base64 of {least} to {most} bytes")
    return key
