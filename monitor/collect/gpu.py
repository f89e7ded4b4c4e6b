"""NVIDIA's GPUs through NVML. Without a driver there are none, which is no error."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import pynvml

from monitor.readings import GpuReading

T = TypeVar("T")


class Nvml(Protocol):
    """The part of the module `pynvml` that is used. Each call may raise `NVMLError`."""

    NVMLError: type[Exception]
    NVMLError_NotSupported: type[Exception]
    NVMLError_LibraryNotFound: type[Exception]
    NVMLError_DriverNotLoaded: type[Exception]
    NVML_TEMPERATURE_GPU: int
    nvmlMemory_v2: int

    def nvmlInit(self) -> None: ...
    def nvmlShutdown(self) -> None: ...
    def nvmlDeviceGetCount(self) -> int: ...
    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any: ...
    def nvmlDeviceGetName(self, handle: Any) -> str | bytes: ...
    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any: ...
    def nvmlDeviceGetMemoryInfo(self, handle: Any, version: int | None = None) -> Any: ...
    def nvmlDeviceGetTemperature(self, handle: Any, sensor: int) -> int: ...
    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int: ...


class GpuCollector:
    """Keeps the library open between readings: opening it can wake a sleeping GPU. Not for two threads at once."""

    def __init__(self, nvml: Nvml = pynvml) -> None:
        self._nvml = nvml
        self._is_open = False

    def read(self) -> list[GpuReading] | None:
        """All GPUs; None without a driver, which is looked for anew each time. Raises NVMLError when it fails."""
        nvml = self._nvml
        if not self._is_open:
            try:
                nvml.nvmlInit()
            except (nvml.NVMLError_LibraryNotFound, nvml.NVMLError_DriverNotLoaded):
                return None
            self._is_open = True
        try:
            return [self._gpu(index) for index in range(nvml.nvmlDeviceGetCount())]
        except nvml.NVMLError:
            # A driver that was reloaded answers only who opens it again.
            self.close()
            raise

    def close(self) -> None:
        """May be called twice, and before any reading."""
        if self._is_open:
            self._is_open = False
            with suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()

    def _gpu(self, index: int) -> GpuReading:
        nvml = self._nvml
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        name = nvml.nvmlDeviceGetName(handle)
        rates = self._ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
        memory = self._ask(lambda: self._memory(handle))
        temperature = self._ask(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
        milliwatts = self._ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        return GpuReading(
            index=index,
            name=name.decode() if isinstance(name, bytes) else name,
            used_ratio=None if rates is None else rates.gpu / 100,
            memory_used_bytes=None if memory is None else memory.used,
            memory_total_bytes=None if memory is None else memory.total,
            temperature_celsius=None if temperature is None else float(temperature),
            power_watts=None if milliwatts is None else milliwatts / 1000,
        )

    def _memory(self, handle: Any) -> Any:
        # The second version leaves out what the driver keeps for itself, as nvidia-smi does.
        try:
            return self._nvml.nvmlDeviceGetMemoryInfo(handle, version=self._nvml.nvmlMemory_v2)
        except self._nvml.NVMLError:
            return self._nvml.nvmlDeviceGetMemoryInfo(handle)

    def _ask(self, call: Callable[[], T]) -> T | None:
        """The answer; None for what this card, or its present mode (MIG has no use of its own), does not tell."""
        try:
            return call()
        except self._nvml.NVMLError_NotSupported:
            return None
