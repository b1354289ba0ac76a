"""What a Secret of a source holds, and to whom it may be shown.

Who writes an EdgeModel names both the address and the Secret. So a Secret is shown only to hosts
that it names itself: whoever cannot write the Secret cannot send it anywhere.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from skerry_runtime.agent.refusal import Refused, Transient
from skerry_runtime.contract import FailureReason

MAX_VALUE_BYTES = 256 * 1024
MAX_HOSTS = 64
_PORTS = {"http": 80, "https": 443}

Host = tuple[str, str, int]
"""Scheme, name and port."""


@dataclass(frozen=True)
class Keyring:
    """The keys of one Secret. The texts of errors name keys and never values."""

    name: str
    """Of the Secret."""
    values: Mapping[str, bytes] = field(repr=False)

    def text(self, key: str) -> str | None:
        """Return a value without space around it; None: the Secret has no such key, or no value.

        Raises:
            Refused: it is no text of one line.
        """
        raw = self.values.get(key)
        if raw is None:
            return None
        try:
            value = raw.decode().strip()
        except UnicodeDecodeError:
            value = "\0"
        if not value.isprintable():
            raise self.refused(f"its key {key} is no text of one line: write the bare value")
        return value or None

    def hosts(self) -> tuple[Host, ...]:
        """Return the hosts that the Secret may be shown to.

        Raises:
            Refused: it names none, or what is no host.
        """
        raw = self.values.get("hosts", b"").decode(errors="replace")
        names = raw.replace(",", " ").split()
        if not names:
            text = (
                "it has no key hosts, so nothing of it is sent anywhere: add hosts with the names "
                "of the hosts that may see it, such as models.example"
            )
            raise self.refused(text)
        if len(names) > MAX_HOSTS:
            raise self.refused(f"its key hosts has {len(names)} names: write at most {MAX_HOSTS}")
        return tuple(self._host(name) for name in names)

    def _host(self, name: str) -> Host:
        found = host_of(name if "://" in name else f"https://{name}")
        if found is None:
            text = "write models.example, models.example:8443 or http://models.example"
            raise self.refused(f"its key hosts names what is no host: {text}")
        return found

    def may_see(self, place: str) -> bool:
        """Tell whether the host of an address is one of those that may see the Secret."""
        return "hosts" in self.values and host_of(place) in self.hosts()

    def require_host(self, place: str) -> None:
        """Check that the host of an address may see the Secret.

        Raises:
            Refused: it may not.
        """
        if host_of(place) in self.hosts():
            return
        parts = urlsplit(place)
        plain = (
            " as http://NAME, as it would be sent in the clear" if parts.scheme == "http" else ""
        )
        host = parts.netloc.rpartition("@")[2]
        raise self.refused(
            f"its key hosts does not name {host}, so it is not shown to it: have it added there"
            f"{plain} by who may write the Secret, or leave source.secretRef out"
        )

    def authorization(self) -> str | None:
        """Return the header for HTTP: a bearer token, or user and password; None: it has neither.

        Raises:
            Refused: it has half of it.
        """
        token, user, password = (self.text(key) for key in ("token", "username", "password"))
        if token is not None:
            return f"Bearer {token}"
        if user is None and password is None:
            return None
        if user is None or password is None or ":" in user:
            raise self.refused("it needs both username, without a colon, and password; or token")
        return basic(user, password)

    def trust(self) -> ssl.SSLContext | None:
        """Return whom to believe besides: the authorities in `ca.crt`.

        Raises:
            Refused: they cannot be read.
        """
        pem = self.values.get("ca.crt")
        if pem is None:
            return None
        context = ssl.create_default_context()
        try:
            context.load_verify_locations(cadata=pem.decode("ascii"))
        except (ssl.SSLError, ValueError) as err:
            raise self.refused("its key ca.crt holds no certificates in PEM form") from err
        return context

    def refused(self, text: str) -> Refused:
        """Return the refusal of a fetch for what the Secret has or has not."""
        return Refused(FailureReason.FETCH_FAILED, f"Secret {self.name}: {text}")


def basic(user: str, password: str) -> str:
    """Return the header for a user and a password."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def host_of(place: str) -> Host | None:
    """Return scheme, host and port of an address; None: it has none."""
    try:
        parts = urlsplit(place)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    if not parts.hostname or port is None or "@" in parts.netloc:
        return None
    return parts.scheme, parts.hostname.rstrip("."), port


def read_keyring(folder: Path, name: str) -> Keyring:
    """Read the Secret that the kubelet mounted; anew each time, as it may have changed. Blocks.

    Raises:
        Refused: it is not there.
        Transient: it cannot be read now.
    """
    try:
        values = _values(folder / name)
    except OSError as err:  # such as one that the kubelet replaces in this moment
        text = f"Secret {name}: its mounted files cannot be read: {err.strerror}"
        raise Transient(text) from err
    if not values:
        text = (
            f"Secret {name}: it is not there, or empty: create it in the namespace of the "
            "EdgeDeployment; the kubelet brings it within about a minute"
        )
        raise Refused(FailureReason.FETCH_FAILED, text)
    return Keyring(name, values)


def _values(place: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path in sorted(place.iterdir()) if place.is_dir() else ():
        if not path.name.startswith("..") and path.is_file():
            with path.open("rb") as file:
                found[path.name] = file.read(MAX_VALUE_BYTES)
    return found
