"""How much memory models may take on a host. Ollama does not say how much there is.

In this order: what MODEL_MEMORY_LIMIT says of the host, what it says of all hosts, and for a host on this machine what
the machine has: the memory of its NVIDIA GPUs, or without one its main memory. Of any other host no limit is known,
and its models are unloaded for idleness only.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

import psutil
import pynvml

ALL_HOSTS = "*"
_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([KMGT]i?B|B)?\s*$", re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12} | {
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


def parse_bytes(text: str) -> int:
    """Bytes from `24GiB`, `24GB` or `25769803776`. Raises ValueError."""
    match = _SIZE.match(text)
    if match is None:
        raise ValueError("expected a size such as 24GiB, 24GB or a number of bytes")
    return int(float(match[1]) * _UNITS[(match[2] or "").lower()])


def split_limits(value: Any) -> Any:
    """{"*": 25769803776, "gpu1:11434": ...} from `24GiB,gpu1:11434=80GiB`; a mapping stays as it is."""
    if not isinstance(value, str):
        return value
    limits: dict[str, int] = {}
    for entry in filter(None, map(str.strip, value.split(","))):
        host, equals, size = entry.rpartition("=")
        limits[host.strip() if equals else ALL_HOSTS] = parse_bytes(size)
    return limits


def memory_limits(hosts: Iterable[str], configured: Mapping[str, int], here_bytes: int) -> dict[str, int]:
    """Each host's limit in bytes; hosts without one are left out. A limit of 0 means none. `hosts` are `host:port`;
    `here_bytes` is what this machine has, 0 where that is not known."""
    found = {}
    for host in hosts:
        own = here_bytes if _is_here(host) else 0
        limit = configured.get(host, configured.get(host.rpartition(":")[0], configured.get(ALL_HOSTS, own)))
        if limit > 0:
            found[host] = limit
    return found


def _is_here(host: str) -> bool:
    name = host.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def machine_memory_bytes() -> int:
    """What models can use here: the GPUs' memory together, without a GPU the main memory.

    The machine's, not this container's share of it: the model server is another container.
    """
    return _gpu_memory_bytes() or int(psutil.virtual_memory().total)


def _gpu_memory_bytes() -> int:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no driver
        return 0
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return sum(int(pynvml.nvmlDeviceGetMemoryInfo(handle).total) for handle in handles)
    except pynvml.NVMLError:
        return 0
    finally:
        pynvml.nvmlShutdown()
