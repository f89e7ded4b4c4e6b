"""Where this process may open connections to. In airgap mode: to this machine and its networks, and nowhere else.

The rule belongs to the process, not to a backend, so that none can be built without it. Every pooled connection to a
model server asks it for the socket itself, after the name was resolved: a wrong URL, a name that points elsewhere, or a
service that ought not to exist cannot open one.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterable

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
AddressInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[object, ...]]

LOCAL_NETWORKS: tuple[IPNetwork, ...] = tuple(
    ipaddress.ip_network(network)
    for network in (
        "127.0.0.0/8", "::1/128",  # this machine
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7",  # private
        "169.254.0.0/16", "fe80::/10",  # link-local
    )
)  # fmt: skip


class OutsideAirgap(OSError):
    """The address is outside, and this process keeps inside."""

    def __init__(self) -> None:
        # The same words for every address of a name: what tries them in turn then passes this very error on.
        super().__init__(errno.EACCES, "airgap mode: the address is not on this machine or its networks")


def networks(texts: Iterable[str]) -> tuple[IPNetwork, ...]:
    """Addresses and networks such as `203.0.113.7` and `203.0.113.0/24`. Raises ValueError naming the wrong one."""
    found = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            raise ValueError(f"{text} is no address and no network; write 203.0.113.7 or 203.0.113.0/24") from None
    return tuple(found)


def is_within(address: str, allowed: Iterable[IPNetwork]) -> bool:
    """Whether an address is in one of the networks. A zone (`fe80::1%eth0`) says nothing about that."""
    one = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(one, ipaddress.IPv6Address) and one.ipv4_mapped is not None:
        one = one.ipv4_mapped
    return any(one.version == network.version and one in network for network in allowed)


_allowed: tuple[IPNetwork, ...] | None = None


def keep_inside(more: Iterable[IPNetwork] = ()) -> None:
    """From now on only local addresses, and those of `more`, can be connected to."""
    global _allowed
    _allowed = (*LOCAL_NETWORKS, *more)


def allow_all() -> None:
    """Every address can be connected to, as in a new process."""
    global _allowed
    _allowed = None


def open_socket(info: AddressInfo) -> socket.socket:
    """An unconnected socket for a resolved address. Raises OutsideAirgap."""
    family, kind, protocol, _, address = info
    if _allowed is not None and not is_within(str(address[0]), _allowed):
        raise OutsideAirgap
    return socket.socket(family, kind, protocol)
