"""`skerry infer`: one request to the pods of a deployment, and what they answer."""

from __future__ import annotations

import json as json_module
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from skerry_operator.ctl.answer import Answer, Declined, Exit
from skerry_operator.ctl.cluster import INFER_TIMEOUT_S, Cluster
from skerry_operator.ctl.documents import Raw
from skerry_operator.ctl.files import read_text
from skerry_operator.ctl.table import as_json, page, table
from skerry_operator.kube.errors import status_message
from skerry_operator.manifests.metadata import service_name

REQUEST_LIMIT = 16 * 2**20
"""Largest request file in bytes."""
ANSWER_LIMIT = 64 * 2**20
"""Largest answer in bytes."""
VALUES_SHOWN = 8
"""Values of an output that the text shows; `-o json` has all."""
_WHOLE = ("int", "uint")
_DATATYPES = {
    "bool": "BOOL",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    **{f"{kind}{size}": f"{kind}{size}".upper() for kind in _WHOLE for size in (8, 16, 32, 64)},
}
"""Name of a numpy type -> its name in the Open Inference Protocol."""


@dataclass(frozen=True)
class InferWish:
    """What is sent, and to whom."""

    name: str
    """The EdgeDeployment."""
    file: str
    service: str | None = None
    """`stable` or `canary`; None: any pod."""
    url: str | None = None
    """Where the pods are reached; None: through the API server."""
    token_file: str | None = None
    """File with the bearer token for `url`."""
    ca_file: str | None = None
    """File with the certificates that `url` is trusted by; None: those of the system."""


def infer(cluster: Cluster, wish: InferWish, *, json: bool) -> Answer:
    """Send the request and tell the answer.

    Raises:
        Declined: there is nothing to send, nobody to send it to, or the server refuses it.
    """
    request = read_request(wish.file)
    spec = cluster.deployment(wish.name)["spec"]
    path = f"v2/models/{quote(str(spec['modelRef']['name']))}/infer"
    if wish.url is None:
        code, data = _through_the_api_server(
            cluster, wish, spec.get("serving") or {}, path, request
        )
    else:
        code, data = _posted(_address(wish.url, path), request, wish)
    answer = _parsed(data)
    if code >= 300 or answer is None:
        raise Declined(f"HTTP {code}: {_why(code, data, answer)}")
    return Answer(as_json(answer) if json else answer_text(answer), Exit.OK)


def read_request(name: str) -> Raw:
    """Return the request in a file: JSON as the protocol has it, or an .npz with the inputs.

    Raises:
        Declined: it is neither.
    """
    _check_size(name)
    if name.endswith(".npz"):
        return {"inputs": _arrays(name)}
    try:
        request = json_module.loads(read_text(name))
    except ValueError as error:
        raise Declined(f"{name}: no JSON: {error}: write a request, or name an .npz") from error
    if not isinstance(request, dict) or not isinstance(request.get("inputs"), list):
        raise Declined(f'{name}: no request: it needs a list "inputs" as the protocol has it')
    return request


def answer_text(answer: Mapping[str, Any]) -> str:
    """Return the outputs for people, long ones cut."""
    head = f"model {answer.get('model_name')}, version {answer.get('model_version')}"
    rows = [
        (one.get("name"), one.get("datatype"), one.get("shape"), _values(one.get("data")))
        for one in answer.get("outputs") or ()
    ]
    return page(head, table(["OUTPUT", "TYPE", "SHAPE", "VALUES"], rows))


def _through_the_api_server(
    cluster: Cluster, wish: InferWish, serving: Raw, path: str, request: Raw
) -> tuple[int, bytes]:
    """Post through the API server's proxy; return code and answer.

    Raises:
        Declined: the pods want a token, or files were given that only a direct request can use.
    """
    if wish.token_file or wish.ca_file:
        raise Declined("--token-file and --ca-file go with --url: write where the pods are reached")
    if serving.get("auth"):
        text = "the pods want a token, which the API server would not pass on"
        raise Declined(f"{text}: give --url and --token-file")
    scheme = "https:" if serving.get("tls") else ""
    service = scheme + service_name(wish.name, wish.service or "")
    return cluster.ask_service(service, path, request, ANSWER_LIMIT)


def _address(url: str, path: str) -> str:
    if urlsplit(url).scheme not in {"http", "https"}:
        raise Declined(f"--url: {url!r} is no address: write for example http://10.0.0.7:8080")
    return f"{url.rstrip('/')}/{path}"


def _token(file: str) -> dict[str, str]:
    """Return the header with the token of a file.

    Raises:
        Declined: it holds none.
    """
    words = read_text(file).split()
    if len(words) != 1:
        raise Declined(f"{file}: {len(words)} words, a token is one")  # never the words themselves
    return {"Authorization": f"Bearer {words[0]}"}


def _trust(file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=file)
    except OSError as error:  # TLS' own errors are such
        raise Declined(f"{file}: no certificates: {error}") from error


def _posted(url: str, request: Raw, wish: InferWish) -> tuple[int, bytes]:
    """Post to an address of the user's own; return code and answer."""
    body = json_module.dumps(request).encode()
    headers = {"Content-Type": "application/json"}
    if wish.token_file:
        headers |= _token(wish.token_file)
    sent = urllib.request.Request(url, body, headers)  # noqa: S310 (http or https, by _address)
    trust = _trust(wish.ca_file) if url.startswith("https") else None
    try:
        with urllib.request.urlopen(  # noqa: S310 (same)
            sent, timeout=INFER_TIMEOUT_S, context=trust
        ) as answer:
            return answer.status, answer.read(ANSWER_LIMIT)
    except urllib.error.HTTPError as error:
        return error.code, error.read(ANSWER_LIMIT)
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise Declined(f"{url}: {reason}: is the address right, and does a pod serve?") from error


def _check_size(name: str) -> None:
    path = Path(name)
    if path.is_file() and path.stat().st_size > REQUEST_LIMIT:
        raise Declined(f"{name}: larger than {REQUEST_LIMIT // 2**20} MiB: send less at once")


def _arrays(name: str) -> list[Raw]:
    """Return the arrays of an .npz as inputs."""
    try:
        import numpy  # noqa: PLC0415 (the command line needs it for nothing else)
    except ImportError as error:
        raise Declined("an .npz needs numpy: pip install numpy, or send JSON") from error
    try:
        with numpy.load(name, allow_pickle=False) as arrays:
            return [_input(key, arrays[key]) for key in arrays.files]
    except (OSError, ValueError) as error:
        raise Declined(f"{name}: no .npz with plain arrays: {error}") from error


def _input(name: str, array: Any) -> Raw:
    datatype = _DATATYPES.get(array.dtype.name)
    if datatype is None:
        raise Declined(f"array {name!r}: {array.dtype} has no name in the protocol: use numbers")
    data = array.ravel().tolist()
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "data": data}


def _parsed(data: bytes) -> Raw | None:
    try:
        answer = json_module.loads(data)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _why(code: int, data: bytes, answer: Raw | None) -> str:
    """Return what the server says, else what an answer like this means."""
    if told := status_message(data) or str((answer or {}).get("error") or ""):
        return told
    return "no pod serves behind the Service" if code == 503 else "the answer is no JSON"


def _values(data: object) -> str:
    values = data if isinstance(data, list) else []
    rest = len(values) - VALUES_SHOWN
    shown = ", ".join(str(value) for value in values[:VALUES_SHOWN])
    return f"{shown}, and {rest} more" if rest > 0 else shown
