"""Gives tokens as registries want them: JSON Web Tokens that name what may be pulled."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

ISSUER, SERVICE = "tests", "models"


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _openssl(*argv: str, given: bytes = b"") -> bytes:
    done = subprocess.run(["openssl", *argv], input=given, capture_output=True, check=True)
    return done.stdout


USER, PASSWORD = "edge", "U*U"


@dataclass
class Tokens:
    """Knows one user, and what it was asked."""

    certificate: Path
    user: str
    password: str
    address: str = ""
    asked: list[Mapping[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        argv = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={ISSUER}"]
        _openssl(*argv, "-keyout", str(self._key), "-out", str(self.certificate))

    @property
    def _key(self) -> Path:
        return self.certificate.with_suffix(".key")

    @property
    def config(self) -> str:
        """What the configuration of a registry says of it."""
        values = {
            "realm": f"http://{self.address}/token",
            "service": SERVICE,
            "issuer": ISSUER,
            "rootcertbundle": str(self.certificate),
        }
        return f"auth: {json.dumps({'token': values})}"

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.query)
        header = request.headers.get("Authorization")
        user = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        if header != f"Basic {user}":
            return web.Response(status=401)
        return web.json_response({"token": self._token(request.query.getall("scope", []))})

    def _token(self, scopes: list[str]) -> str:
        now = int(time.time())
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        claims = {
            "iss": ISSUER,
            "sub": self.user,
            "aud": SERVICE,
            "exp": now + 60,
            "nbf": now - 60,
            "iat": now,
            "jti": "1",
            "access": access,
        }
        der = ssl.PEM_cert_to_DER_cert(self.certificate.read_text())
        head = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
        text = ".".join(_encoded(json.dumps(part).encode()) for part in (head, claims))
        signature = _openssl("dgst", "-sha256", "-sign", str(self._key), given=text.encode())
        return f"{text}.{_encoded(signature)}"
