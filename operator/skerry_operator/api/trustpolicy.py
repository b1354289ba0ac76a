"""Whose word counts for models: what the operator's administrator says, namespace by namespace."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from skerry_operator.api.base import KubeModel, Name, Sha256
from skerry_runtime.contract import MAX_KEYS, MAX_REVOKED, PublicKeyText, TrustPolicy

MAX_ENTRIES = 64
MAX_NAMESPACES = 256


class CountingKeys(KubeModel):
    """Keys of which one has to vouch for whatever serves in some namespaces."""

    namespaces: Annotated[tuple[Name, ...], Field(min_length=1, max_length=MAX_NAMESPACES)]
    """The namespaces, by name."""
    public_keys: Annotated[tuple[PublicKeyText, ...], Field(min_length=1, max_length=MAX_KEYS)]
    """The keys, as PEM."""


class SigningPolicy(KubeModel):
    """The chart's `policy`."""

    signatures: Annotated[tuple[CountingKeys, ...], Field(max_length=MAX_ENTRIES)] = ()
    """A namespace in several entries has the keys of all of them."""
    revoked_keys: Annotated[tuple[Sha256, ...], Field(max_length=MAX_REVOKED)] = ()
    """Fingerprints of keys that vouch for nothing, nor ever did."""

    @model_validator(mode="after")
    def _must_be_bounded(self) -> SigningPolicy:
        for name in {name for entry in self.signatures for name in entry.namespaces}:
            if (count := len(self._keys(name))) > MAX_KEYS:
                text = f"namespace {name} has {count} keys: at most {MAX_KEYS} may count"
                raise ValueError(text)
        return self

    def in_namespace(self, name: str) -> TrustPolicy | None:
        """Return what pods of a namespace are told; None: nothing."""
        keys = self._keys(name) or None
        if keys is None and not self.revoked_keys:
            return None
        return TrustPolicy(public_keys=keys, revoked=self.revoked_keys)

    def _keys(self, namespace: str) -> tuple[str, ...]:
        keys = (
            key.strip()
            for entry in self.signatures
            if namespace in entry.namespaces
            for key in entry.public_keys
        )
        return tuple(dict.fromkeys(keys))


NO_POLICY = SigningPolicy()
"""Models say themselves who has to vouch for them."""
