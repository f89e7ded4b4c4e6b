"""How much memory models may take on a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pynvml
import pytest

from manager.memory import machine_memory_bytes, memory_limits, parse_bytes, split_limits
from manager.settings import ManagerSettings
from shared.lifecycle import ConfigFault, read_settings

GIB = 2**30


@pytest.mark.parametrize(
    ("text", "size"),
    [("24GiB", 24 * GIB), ("24 GB", 24 * 10**9), ("1.5tib", 3 * 2**39), ("512MiB", 2**29), ("1000", 1000), ("0", 0)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1GiB", "24 GiBs", "1,5GB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="24GiB"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("host", "configured", "limit"),
    [
        ("localhost:11434", "", 7),
        ("127.0.0.1:11434", "", 7),
        ("[::1]:11434", "", 7),
        ("gpu1:11434", "", None),
        ("gpu1:11434", "1GiB", GIB),
        ("localhost:11434", "1GiB", GIB),
        ("gpu1:11434", "1GiB,gpu1:11434=2GiB", 2 * GIB),
        ("gpu1:11434", "gpu1=2GiB, 1GiB", 2 * GIB),
        ("gpu2:11434", "gpu1=2GiB", None),
        ("localhost:11434", "0", None),
        ("gpu1:11434", "1GiB,gpu1=0", None),
    ],
)
@pytest.mark.req("S1-86")
def test_limits(host: str, configured: str, limit: int | None) -> None:
    assert memory_limits([host], split_limits(configured), here_bytes=7).get(host) == limit


def test_this_machine_without_a_gpu_has_its_main_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", no_driver)
    assert machine_memory_bytes() == psutil.virtual_memory().total


def test_this_machine_with_gpus_has_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        total = 24 * GIB

    for name, value in {"Init": None, "Shutdown": None, "DeviceGetCount": 2, "DeviceGetHandleByIndex": 0}.items():
        monkeypatch.setattr(pynvml, f"nvml{name}", lambda *_, value=value: value)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda handle: Memory)
    assert machine_memory_bytes() == 48 * GIB


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Read them from an environment; `settings(NAME="value")`."""
    monkeypatch.chdir(tmp_path)

    def read(**environment: str) -> ManagerSettings:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return read_settings(ManagerSettings)

    return read


@pytest.mark.req("S1-83", "S1-84", "S1-85", "S1-86", "S1-87", "S1-94")
def test_settings_are_read_in_the_units_of_the_documents(settings: Any) -> None:
    read = settings(
        MODEL_PRELOAD_LIST="llama3.2, mistral", MODEL_MEMORY_THRESHOLD="75", MODEL_UNLOAD_TIMEOUT="300000",
        MEMORY_CLEANUP_INTERVAL="60000", MODEL_CLEANUP_AFTER="14d", MODEL_MEMORY_LIMIT="24GiB",
        FALLBACK_CHAINS="a=b,c", FALLBACK_MODELS="d", ALLOWED_MODELS="*",
    )  # fmt: skip
    policy = read.residency_policy
    assert (policy.threshold, policy.idle_s, policy.preload) == (0.75, 300.0, ["llama3.2", "mistral"])
    assert (read.memory_cleanup_interval, read.model_memory_limit) == (60.0, {"*": 24 * GIB})
    assert read.cleanup_policy.unused_s == 14 * 86_400.0
    assert dict(read.cleanup_policy.wanted) == {
        "MODEL_PRELOAD_LIST": ["llama3.2", "mistral"], "FALLBACK_MODELS": ["d"], "FALLBACK_CHAINS": ["a", "b", "c"],
    }  # fmt: skip


def test_a_preload_that_is_switched_off_still_keeps_the_files(settings: Any) -> None:
    read = settings(MODEL_PRELOAD_LIST="llama3.2", MODEL_PRELOAD_ENABLED="false")
    assert read.residency_policy.preload == []
    assert dict(read.cleanup_policy.wanted)["MODEL_PRELOAD_LIST"] == ["llama3.2"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("MODEL_MEMORY_LIMIT", "gpu1=lots"), ("MODEL_MEMORY_THRESHOLD", "0"), ("MODEL_UNLOAD_TIMEOUT", "0")],
)
def test_a_wrong_setting_is_named(settings: Any, name: str, value: str) -> None:
    with pytest.raises(ConfigFault, match=name):
        settings(**{name: value})
