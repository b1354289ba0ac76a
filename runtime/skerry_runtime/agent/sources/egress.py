"""The way out that the operator's administrator names: a proxy for https, and authorities."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from skerry_runtime.agent.addresses import forbidden_kind
from skerry_runtime.agent.ports import Networks, Tuning
from skerry_runtime.agent.refusal import Refused
from skerry_runtime.contract import FailureReason

Address = IPv4Address | IPv6Address


def proxy_for(place: str, tuning: Tuning) -> str | None:
    """Return the proxy by which an address is asked; None: it is asked directly.

    Like HTTPS_PROXY elsewhere it is for https alone.
    """
    parts = urlsplit(place)
    host = (parts.hostname or "").rstrip(".").lower()
    if not tuning.https_proxy or parts.scheme != "https" or not host:
        return None
    port = parts.port or 443
    exempt = (entry.strip().lower() for entry in tuning.no_proxy.split(","))
    return None if any(_is_meant(one, host, port) for one in exempt if one) else tuning.https_proxy


def forbidden_literal(place: str, allowed: Networks | Sequence[object]) -> str | None:
    """Return the class of an address that stands in a URL itself, if pods may not ask it.

    A name is resolved by the proxy, and whether its address may be asked is the proxy's to say.
    """
    address = _address(urlsplit(place).hostname or "")
    return None if address is None else forbidden_kind(address, tuple(allowed))  # type: ignore[arg-type]


def with_bundle(trust: ssl.SSLContext | None, tuning: Tuning) -> ssl.SSLContext | None:
    """Return whom to believe, the administrator's authorities among them.

    Raises:
        Refused: the bundle cannot be read.
    """
    if not tuning.ca_bundle:
        return trust
    context = trust or ssl.create_default_context()
    try:
        context.load_verify_locations(cadata=tuning.ca_bundle)
    except (ssl.SSLError, ValueError) as err:
        text = "the operator's setting ca_bundle (chart value fetch.caBundle) holds no certificates"
        raise Refused(FailureReason.FETCH_FAILED, f"{text} in PEM form") from err
    return context


def _is_meant(entry: str, host: str, port: int) -> bool:
    """Tell whether an entry of NO_PROXY means a host: a name and all below it, or a network."""
    if entry == "*":
        return True
    address = _address(host)
    if address is not None:
        return _is_in(entry.removesuffix(f":{port}"), address)
    name = entry.removesuffix(f":{port}").removeprefix("*").lstrip(".")
    return host == name or host.endswith(f".{name}")


def _is_in(entry: str, address: Address) -> bool:
    try:
        return address in ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        return False


def _address(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
