"""What the system monitor reads from its environment."""

from __future__ import annotations

from pydantic import Field

from shared.settings import BaseServiceSettings


class MonitorSettings(BaseServiceSettings):
    """The system monitor's settings."""

    monitor_host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address the system monitor listens on. It has no keys: keep it private.",
    )
    monitor_port: int = Field(
        default=3010, ge=0, le=65535, description="Port the system monitor listens on; 0: any free one."
    )
