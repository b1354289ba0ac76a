"""Which addresses a model may come from.

Who writes an EdgeModel says what the pod opens. So what only the pod or its node may ask is out of
bounds: the pod itself, the link and the cloud's metadata on it. It is decided on the address that
is connected to, so that no name can say one thing when it is checked and another when it is used.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_ALLOWED = 64
"""Most networks that a setting may name."""

_FORBIDDEN: tuple[tuple[str, tuple[str, ...]], ...] = (
    # The clouds' own addresses for a machine's credentials; most others are link-local.
    (
        "cloud metadata",
        ("100.100.100.200/32", "168.63.129.16/32", "fd00:ec2::/32", "fd20:ce::254/128"),
    ),
    ("loopback", ("127.0.0.0/8", "::1/128")),
    ("link-local", ("169.254.0.0/16", "fe80::/10")),
    ("unspecified", ("0.0.0.0/8", "::/128")),
    ("multicast", ("224.0.0.0/4", "ff00::/8")),
    ("reserved", ("192.0.0.0/24", "240.0.0.0/4", "fec0::/10")),
)
_CLASSES = tuple((name, tuple(map(ip_network, nets))) for name, nets in _FORBIDDEN)

# IPv6 networks whose addresses stand for an IPv4 address, and where in the 128 bits that lies.
_EMBEDDING = (
    (IPv6Network("::/96"), 0),  # IPv4-compatible
    (IPv6Network("::ffff:0:0/96"), 0),  # IPv4-mapped
    (IPv6Network("::ffff:0:0:0/96"), 0),  # IPv4-translated
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64
    (IPv6Network("2002::/16"), 80),  # 6to4
)
_SITE_NAT64 = IPv6Network("64:ff9b:1::/48")
_TEREDO = IPv6Network("2001::/32")
_ISATAP, _ISATAP_MASK = 0x5EFE, 0xFCFFFFFF
_BITS = 0xFFFFFFFF


class ForbiddenAddress(OSError):  # noqa: N818 (says what the address is)
    """A connection that is not made; `kind` is the class of the address."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"no connection to a {kind} address")
        self.kind = kind


def as_networks(given: object) -> object:
    """Return the networks of a comma-separated list; what is no text stays as it is.

    Raises:
        ValueError: one is none, or there are too many.
    """
    if not isinstance(given, str):
        return given
    parts = [part.strip() for part in given.split(",") if part.strip()]
    if len(parts) > MAX_ALLOWED:
        raise ValueError(f"{len(parts)} networks: name at most {MAX_ALLOWED}")
    try:
        return tuple(ip_network(part) for part in parts)
    except ValueError as err:
        raise ValueError(f"{err}: write networks such as 10.0.0.0/8, with commas between") from err


def forbidden_kind(address: Address, allowed: Sequence[Network] = ()) -> str | None:
    """Return the class for which an address is out of bounds; None: it may be asked."""
    for meant in (address, *_embedded(address)):
        if any(meant.version == net.version and meant in net for net in allowed):
            return None
    for meant in (address, *_embedded(address)):
        kind = _kind(meant)
        if kind is not None:
            return kind
    return None


def _kind(address: Address) -> str | None:
    for name, nets in _CLASSES:
        if any(address.version == net.version and address in net for net in nets):
            return name
    return None


def _embedded(address: Address) -> list[IPv4Address]:
    """Return the IPv4 addresses that traffic to an IPv6 address may end at."""
    if isinstance(address, IPv4Address):
        return []
    number = int(address)
    found = [IPv4Address((number >> shift) & _BITS) for net, shift in _EMBEDDING if address in net]
    if address in _SITE_NAT64:
        found += _of_site_nat64(number)
    if address in _TEREDO:
        found += [IPv4Address((number >> 64) & _BITS), IPv4Address(~number & _BITS)]
    if (number >> 32) & _ISATAP_MASK == _ISATAP:
        found.append(IPv4Address(number & _BITS))
    return found


def _of_site_nat64(number: int) -> list[IPv4Address]:
    """Return what the prefix may stand for: RFC 6052 has a form for 96 bits and one for 48."""
    last, split = number & _BITS, ((number >> 64) & 0xFFFF) << 16 | (number >> 40) & 0xFFFF
    return [IPv4Address(place) for place in (last, split) if place >> 24]


class Gate:
    """Opens the sockets of one fetch, and none to where it must not go."""

    def __init__(self, allowed: Sequence[Network]) -> None:
        self._allowed = allowed
        self.refused: str | None = None
        """The class of the last address that was refused, if nothing else was tried."""
        self._is_mixed = False

    def begin(self) -> None:
        """Forget what an earlier connection met."""
        self.refused, self._is_mixed = None, False

    def socket(self, info: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
        """Return a socket for an address of `getaddrinfo`.

        Raises:
            ForbiddenAddress: the address is out of bounds.
        """
        family, kind, protocol, _, place = info
        forbidden = forbidden_kind(ip_address(str(place[0])), self._allowed)
        if forbidden is not None:
            self.refused = None if self._is_mixed else forbidden
            raise ForbiddenAddress(forbidden)
        self.refused, self._is_mixed = None, True
        return socket.socket(family, kind, protocol)
