"""A small client for the local API server, with the administrator's certificate."""

import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from skerry_cluster.command import ClusterError
from skerry_cluster.settings import API_PORT, HOST_IP

FIELD_OWNER = "skerry-cluster"


class Api:
    """Reads and applies objects."""

    def __init__(self, pki: Path) -> None:
        """Load the authority and the administrator's certificate."""
        self._context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        handler = urllib.request.HTTPSHandler(context=self._context)
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), handler)

    def get(self, path: str) -> Any:
        """Read an object; None if there is no such thing."""
        try:
            return json.loads(self._send("GET", path))
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise ClusterError(f"GET {path}: {error}") from error
        except OSError as error:
            raise ClusterError(f"GET {path}: {error}") from error

    def apply(self, path: str, body: dict[str, Any]) -> None:
        """Bring an object into the given shape (server-side apply).

        Raises:
            ClusterError: with the server's words, if it refuses.
        """
        query = f"?fieldManager={FIELD_OWNER}&force=true"
        try:
            self._send("PATCH", path + query, json.dumps(body).encode())
        except urllib.error.HTTPError as error:
            text = error.read(2000).decode(errors="replace")
            raise ClusterError(f"apply {path}: {text}") from error
        except OSError as error:
            raise ClusterError(f"apply {path}: {error}") from error

    def is_ready(self) -> bool:
        """Say whether the server answers that it is ready."""
        try:
            return self._send("GET", "/readyz") == b"ok"
        except OSError:
            return False

    def _send(self, method: str, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(
            f"https://{HOST_IP}:{API_PORT}{path}",
            data=body,
            method=method,
            headers={"Content-Type": "application/apply-patch+yaml"},
        )
        with self._opener.open(request, timeout=10) as answer:
            content: bytes = answer.read()
        return content
