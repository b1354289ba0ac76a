"""What may be fetched, and what of it may be shown."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit, urlunsplit

from skerry_runtime.agent.refusal import Refused
from skerry_runtime.contract import FailureReason


def shown(uri: str) -> str:
    """Return the URI without user, password, query and fragment."""
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def require_http(uri: str) -> None:
    """Check that the URI can be fetched at all.

    Raises:
        Refused: FetchFailed.
    """
    try:
        parts = urlsplit(uri)
    except ValueError as err:
        raise Refused(FailureReason.FETCH_FAILED, "the uri cannot be parsed") from err
    if parts.scheme not in ("http", "https") or not parts.hostname:
        text = f"{parts.scheme or 'no scheme'}: this runtime fetches http and https only"
        raise Refused(FailureReason.FETCH_FAILED, text)


def next_place(place: str, location: str) -> str:
    """Return where a redirect leads: never to another scheme than http(s), nor to a weaker one.

    Raises:
        Refused: FetchFailed.
    """
    try:
        target = urljoin(place, location)
    except ValueError as err:
        text = "a redirect leads to what is no address"
        raise Refused(FailureReason.FETCH_FAILED, text) from err
    require_http(target)
    if place.startswith("https:") and not target.startswith("https:"):
        raise Refused(FailureReason.FETCH_FAILED, "a redirect leads from https to http: refused")
    return target


def place_of_bundle(uri: str) -> str:
    """Return where the bundle of a file is, unless somebody says another place.

    >>> place_of_bundle("https://models.example/a.onnx?v=1")
    'https://models.example/a.onnx.sig?v=1'
    >>> place_of_bundle("hf://org/repo/a.onnx@0123")
    'hf://org/repo/a.onnx.sig@0123'
    """
    if uri.startswith("oci://"):
        return uri
    if uri.startswith("hf://"):
        path, _, commit = uri.rpartition("@")
        return f"{path}.sig@{commit}"
    if uri.startswith(("http://", "https://")):
        parts = urlsplit(uri)
        return urlunsplit(parts._replace(path=parts.path + ".sig"))
    return uri + ".sig"
