"""Which TCP ports are free, and who has the ones that are not."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import psutil


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def any_free(host: str = "127.0.0.1") -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def preferred_or_free(preferred: int) -> int:
    return preferred if preferred and is_free(preferred) else any_free()


def local_port(url: str, default: int = 11434) -> int:
    """The port of a URL on this machine; `default` for one elsewhere."""
    parts = urlsplit(url)
    return parts.port or default if parts.hostname in ("localhost", "127.0.0.1", "::1") else default


def holder(port: int) -> str:
    """`by python (pid 123)`, or empty when the system does not tell."""
    try:
        for connection in psutil.net_connections("tcp"):
            if (
                connection.status == psutil.CONN_LISTEN
                and connection.laddr
                and connection.laddr.port == port
                and connection.pid
            ):
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass
    return ""
