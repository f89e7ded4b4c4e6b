"""The GPUs, by a stand-in for NVML: this machine may have none."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import pynvml
import pytest

from monitor.collect.gpu import GpuCollector, Nvml
from monitor.readings import GpuReading

STUB_FOLDER = Path(__file__).parent / "nvml"
CARD = {
    "name": "Stub A100",
    "use": 37,
    "memory_used": 60_000_000_000,
    "memory_total": 80_000_000_000,
    "celsius": 61,
    "milliwatts": 250_500,
}


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the stub reads; it is not there yet."""
    path = tmp_path / "nvml.json"
    monkeypatch.setenv("NVML_STUB", str(path))
    return path


@pytest.fixture
def nvml() -> Nvml:
    spec = importlib.util.spec_from_file_location("stub_nvml", STUB_FOLDER / "pynvml.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.req("S1-53", "S0-55", "D-07")
def test_several_gpus(stub: Path, nvml: Nvml) -> None:
    stub.write_text(json.dumps({"gpus": [CARD, {**CARD, "use": 0}]}))
    first, second = GpuCollector(nvml).read() or []
    assert first == GpuReading(
        index=0,
        name="Stub A100",
        used_ratio=0.37,
        memory_used_bytes=60_000_000_000,
        memory_total_bytes=80_000_000_000,
        temperature_celsius=61.0,
        power_watts=250.5,
    )
    assert first.memory_ratio == 0.75
    assert (second.index, second.used_ratio) == (1, 0.0)


@pytest.mark.req("S1-53")
def test_no_driver_is_no_error_and_one_that_comes_later_is_found(stub: Path, nvml: Nvml) -> None:
    collector = GpuCollector(nvml)
    assert collector.read() is None
    stub.write_text(json.dumps({"gpus": [CARD]}))
    assert len(collector.read() or []) == 1
    collector.close()
    collector.close()


def test_what_a_card_does_not_tell_is_left_out(stub: Path, nvml: Nvml) -> None:
    stub.write_text(json.dumps({"gpus": [{"name": "MIG"}]}))
    (gpu,) = GpuCollector(nvml).read() or []
    assert (gpu.used_ratio, gpu.memory_ratio, gpu.temperature_celsius, gpu.power_watts) == (None, None, None, None)


def test_a_driver_that_fails_is_opened_again(stub: Path, nvml: Nvml) -> None:
    collector = GpuCollector(nvml)
    stub.write_text(json.dumps({"gpus": [CARD]}))
    collector.read()
    stub.write_text(json.dumps({"broken": True}))
    with pytest.raises(nvml.NVMLError):
        collector.read()
    stub.write_text(json.dumps({"gpus": [CARD]}))
    assert len(collector.read() or []) == 1


def test_the_real_library_has_all_that_we_call() -> None:
    names = list(vars(Nvml)["__annotations__"]) + [name for name in vars(Nvml) if name.startswith("nvml")]
    assert [name for name in names if not hasattr(pynvml, name)] == []


QUERY = "index,name,memory.used,memory.total,temperature.gpu,power.draw"
MIB = 2**20


def by_nvidia_smi() -> list[list[str]]:
    """A row for each GPU with the figures of `QUERY`; none where there is no such program or no driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return [line.split(", ") for line in done.stdout.splitlines()] if done.returncode == 0 else []


@pytest.mark.req("S1-53", "S0-55")
def test_the_figures_are_those_of_nvidia_smi() -> None:
    """On a machine without a GPU both say that there is none."""
    collector = GpuCollector()
    gpus = collector.read() or []
    rows = by_nvidia_smi()
    collector.close()
    assert [(str(gpu.index), gpu.name) for gpu in gpus] == [(row[0], row[1]) for row in rows]
    for gpu, (_, _, used, total, celsius, watts) in zip(gpus, rows, strict=True):
        # Read a moment apart: others may have started or ended something.
        assert gpu.memory_total_bytes == pytest.approx(float(total) * MIB, abs=MIB)
        assert gpu.memory_used_bytes == pytest.approx(float(used) * MIB, abs=0.05 * float(total) * MIB)
        assert gpu.temperature_celsius == pytest.approx(float(celsius), abs=10)
        assert gpu.power_watts == pytest.approx(float(watts), rel=0.5)
        assert gpu.used_ratio is None or 0 <= gpu.used_ratio <= 1
