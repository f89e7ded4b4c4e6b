"""Stands in for nvidia-ml-py in a process of ours: this folder goes first in its PYTHONPATH.

What it says is in the JSON file that NVML_STUB names, read at each call, so that a test can change it:
{"gpus": [{"name", "use" (percent), "memory_used", "memory_total" (bytes), "celsius", "milliwatts"}]}. A figure that is
left out is not supported; without the file there is no driver; {"broken": true} is a driver that fails.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

NVML_TEMPERATURE_GPU = 0
nvmlMemory_v2 = 0x02000028


class NVMLError(Exception): ...


class NVMLError_NotSupported(NVMLError): ...


class NVMLError_LibraryNotFound(NVMLError): ...


class NVMLError_DriverNotLoaded(NVMLError): ...


def _gpus() -> list[dict[str, Any]]:
    try:
        said = json.loads(Path(os.environ["NVML_STUB"]).read_text())
    except (KeyError, FileNotFoundError):
        raise NVMLError_LibraryNotFound("NVML Shared Library Not Found") from None
    if said.get("broken"):
        raise NVMLError("GPU is lost")
    gpus: list[dict[str, Any]] = said["gpus"]
    return gpus


def _figure(handle: int, name: str) -> Any:
    found = _gpus()[handle].get(name)
    if found is None:
        raise NVMLError_NotSupported("Not Supported")
    return found


def nvmlInit() -> None:
    _gpus()


def nvmlShutdown() -> None: ...


def nvmlDeviceGetCount() -> int:
    return len(_gpus())


def nvmlDeviceGetHandleByIndex(index: int) -> int:
    return index


def nvmlDeviceGetName(handle: int) -> str:
    return str(_figure(handle, "name"))


def nvmlDeviceGetUtilizationRates(handle: int) -> Any:
    return SimpleNamespace(gpu=_figure(handle, "use"))


def nvmlDeviceGetMemoryInfo(handle: int, version: int | None = None) -> Any:
    return SimpleNamespace(used=_figure(handle, "memory_used"), total=_figure(handle, "memory_total"))


def nvmlDeviceGetTemperature(handle: int, sensor: int) -> int:
    return int(_figure(handle, "celsius"))


def nvmlDeviceGetPowerUsage(handle: int) -> int:
    return int(_figure(handle, "milliwatts"))
