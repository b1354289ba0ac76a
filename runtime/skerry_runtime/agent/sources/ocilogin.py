"""Who a registry takes us for: users in a Secret, and tokens that are asked for with them."""

from __future__ import annotations

import base64
import binascii
import json
import re
import ssl
from collections.abc import Iterable, Mapping
from urllib.parse import urlencode, urlsplit

from skerry_runtime.agent.ports import Tuning
from skerry_runtime.agent.refusal import Refused
from skerry_runtime.agent.sources.client import Client, refusal_of
from skerry_runtime.agent.sources.keyring import Host, Keyring, basic, host_of
from skerry_runtime.agent.urls import shown
from skerry_runtime.contract import FailureReason

DOCKER_CONFIG = ".dockerconfigjson"
_TOKEN_BYTES = 64 * 1024
_BEARER = re.compile(r"^Bearer\b", re.IGNORECASE)
_FIELD = re.compile(r'([a-z_]+)="([^"]*)"', re.IGNORECASE)
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")
_DOCKER_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io", "auth.docker.io"})
"""Names of one and the same registry, and of where it gives tokens."""


class Login:
    """Shows each host what it may see: the registry a token, its realm a password."""

    def __init__(self, base: str, credentials: Keyring | None, actions: str = "pull") -> None:
        self._base = base
        self._registry = host_of(base)
        self._credentials = credentials
        self._actions = actions
        self._user = _user(base, credentials) if credentials else None
        self._trust = credentials.trust() if credentials else None
        self._shown: dict[Host | None, str] = {}

    def headers(self, place: str, asked: Mapping[str, str], /) -> Mapping[str, str]:
        """Return the headers for an address; a blob that lies elsewhere is asked for by nobody."""
        authorization = self._shown.get(host_of(place))
        return {**asked, "Authorization": authorization} if authorization else asked

    def trust(self, place: str, /) -> ssl.SSLContext | None:
        """Return the Secret's own authorities for the registry and the hosts that it names."""
        if self._trust is None or self._credentials is None:
            return None
        is_ours = host_of(place) == self._registry or self._credentials.may_see(place)
        return self._trust if is_ours else None

    async def answer(
        self, challenges: Iterable[str], repository: str, uri: str, tuning: Tuning
    ) -> None:
        """Do what the registry asks for before it gives anything.

        Raises:
            Refused: it cannot be done, or would show a password to somebody else.
            Transient: the realm does not answer.
        """
        asked = list(challenges)
        bearer = next((one for one in asked if _BEARER.match(one)), None)
        if bearer is not None:
            token = await self._token(dict(_FIELD.findall(bearer)), repository, uri, tuning)
            self._shown = {self._registry: f"Bearer {token}"}
        elif self._user is not None and any(one.lower().startswith("basic") for one in asked):
            self._shown = {self._registry: self._user}
        else:
            field = "source.secretRef" if self._actions == "pull" else "store.pushSecretRef"
            may = self._actions.rpartition(",")[2]
            text = f"{shown(uri)}: HTTP 401: name a Secret in {field} that may {may}"
            raise Refused(FailureReason.FETCH_FAILED, text)

    async def _token(
        self, fields: Mapping[str, str], repository: str, uri: str, tuning: Tuning
    ) -> str:
        realm = fields.get("realm", "")
        self._check_realm(realm, uri)
        scope = {"scope": f"repository:{repository}:{self._actions}"}
        service = {"service": fields["service"]} if "service" in fields else {}
        joint = "&" if "?" in realm else "?"
        place = f"{realm}{joint}{urlencode({**service, **scope})}"
        self._shown = {host_of(realm): self._user} if self._user else {}
        client = Client(tuning, uri, self)
        async with client.get(place, {}) as response:
            if response.status != 200:
                raise refusal_of(response.status, uri, ", from where it gives tokens")
            body = await client.text(response, _TOKEN_BYTES)
        return _token_in(body, uri)

    def _check_realm(self, realm: str, uri: str) -> None:
        """Check that the place where tokens are given may be asked, and with what.

        Raises:
            Refused: it may not.
        """
        host = host_of(realm)
        if host is None or host[0] not in ("http", "https"):
            text = f"{shown(uri)}: the registry names no address where it gives tokens"
            raise Refused(FailureReason.FETCH_FAILED, text)
        if self._base.startswith("https:") and host[0] != "https":
            text = f"{shown(uri)}: the registry gives tokens over http: refused"
            raise Refused(FailureReason.FETCH_FAILED, text)
        if self._user is None or self._credentials is None or host == self._registry:
            return
        if self._credentials.may_see(realm) or self._is_docker_hub(host):
            return
        raise self._credentials.refused(
            f"{shown(uri)} gives tokens at {urlsplit(realm).netloc}, which it does not name, so it "
            "is not shown there: add that host to its key hosts, if it is the registry's"
        )

    def _is_docker_hub(self, host: Host) -> bool:
        own = self._registry[1] if self._registry else ""
        return own in _DOCKER_HUB and host[1] in _DOCKER_HUB and host[0] == "https"


def _token_in(body: bytes, uri: str) -> str:
    try:
        answer = json.loads(body)
        token = answer.get("token") or answer.get("access_token")
    except (ValueError, AttributeError, RecursionError):
        token = None
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        text = f"{shown(uri)}: where the registry gives tokens, there is none in the answer"
        raise Refused(FailureReason.FETCH_FAILED, text)
    return token


def _user(base: str, credentials: Keyring) -> str | None:
    """Return who we are for a registry; None: nobody, as the Secret has no user at all."""
    config = credentials.values.get(DOCKER_CONFIG)
    if config is not None:
        return _user_in(config, base, credentials)
    authorization = credentials.authorization()
    if authorization is None:
        return None
    credentials.require_host(base)
    if not authorization.startswith("Basic "):
        raise credentials.refused("a registry takes username and password, and no token")
    return authorization


def _user_in(config: bytes, base: str, credentials: Keyring) -> str:
    """Return the user of a registry in what `docker login` writes."""
    try:
        entries = dict(json.loads(config)["auths"])
    except (ValueError, KeyError, TypeError, RecursionError) as err:
        raise credentials.refused(f"its key {DOCKER_CONFIG} is no file of docker login") from err
    wanted = urlsplit(base).netloc.lower()
    for name, entry in entries.items():
        if _same(_netloc(name), wanted):
            return _basic_of(entry, credentials)
    raise credentials.refused(
        f"its key {DOCKER_CONFIG} has no entry for {wanted}, so it is not shown to it: have one "
        "added by who may write the Secret, or leave source.secretRef out"
    )


def _netloc(name: str) -> str:
    return urlsplit(name if "://" in name else f"https://{name}").netloc.lower()


def _same(name: str, wanted: str) -> bool:
    return name == wanted or (name in _DOCKER_HUB and wanted in _DOCKER_HUB)


def _basic_of(entry: object, credentials: Keyring) -> str:
    fields = entry if isinstance(entry, dict) else {}
    user, password, both = (fields.get(key) for key in ("username", "password", "auth"))
    if isinstance(both, str) and both:
        try:
            user, _, password = base64.b64decode(both).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            user = None
    if not isinstance(user, str) or not isinstance(password, str) or not user:
        raise credentials.refused(f"an entry of its key {DOCKER_CONFIG} has no user and password")
    return basic(user, password)
