"""What the model manager reads from its environment."""

from __future__ import annotations

from pydantic import Field

from shared.settings import BaseServiceSettings


class ManagerSettings(BaseServiceSettings):
    """The model manager's settings."""

    manager_host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address the model manager listens on. It has no keys: keep it private.",
    )
    manager_port: int = Field(
        default=3009, ge=0, le=65535, description="Port the model manager listens on; 0: any free one."
    )
