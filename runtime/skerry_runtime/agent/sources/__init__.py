"""Where the bytes of a file come from: one module for each scheme of `source.uri`.

A scheme is imported when it is asked for: a pod pays for none that it does not use.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from urllib.parse import urlsplit

from skerry_runtime.agent.ports import Tuning
from skerry_runtime.agent.refusal import Refused
from skerry_runtime.agent.sources.base import ByteSource, Order
from skerry_runtime.contract import FailureReason

_MODULES = {"http": "web", "https": "web", "s3": "s3", "oci": "oci", "hf": "hf", "pvc": "pvc"}


def source_of(order: Order, tuning: Tuning) -> ByteSource:
    """Return the source of a file.

    Raises:
        Refused: FetchFailed: no address, or none of a scheme that is known here.
    """
    try:
        parts = urlsplit(order.uri)
    except ValueError as err:
        raise Refused(FailureReason.FETCH_FAILED, "the uri cannot be parsed") from err
    name = _MODULES.get(parts.scheme)
    if name is None or not parts.netloc:
        *known, last = _MODULES
        text = f"{parts.scheme or 'no scheme'}: this runtime fetches {', '.join(known)} and {last}"
        raise Refused(FailureReason.FETCH_FAILED, text)
    module = import_module(f"{__name__}.{name}")
    make: Callable[[Order, Tuning], ByteSource] = module.source
    return make(order, tuning)
