"""Who has to vouch for a model here, and whether somebody did."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skerry_runtime.agent.contents import OpenedModel
from skerry_runtime.agent.goal import Goal
from skerry_runtime.agent.ports import Tuning
from skerry_runtime.agent.refusal import Refused
from skerry_runtime.agent.slots import Slots
from skerry_runtime.agent.urls import place_of_bundle
from skerry_runtime.agent.worker import Worker
from skerry_runtime.contract import FailureReason, TrustPolicy

if TYPE_CHECKING:
    from skerry_runtime.agent.state import SlotManifest
    from skerry_runtime.trust.keys import PublicKey
    from skerry_runtime.trust.vouch import Files


@dataclass(frozen=True)
class Vouched:
    """What is remembered of a signature that was verified."""

    signed_by: str
    """Fingerprint of the key."""
    files: str
    """Digest of the files that it vouches for."""

    @classmethod
    def of(cls, manifest: SlotManifest | None) -> Vouched | None:
        """Return what a manifest remembers."""
        if manifest is None or not manifest.signed_by:
            return None
        return cls(manifest.signed_by, manifest.signed_files)


def counting_keys(goal: Goal, policy: TrustPolicy) -> tuple[str, ...] | None:
    """Return the keys of which one has to vouch; None: nobody has to.

    Where a policy says which keys count, those of the model do not add to them.
    """
    if policy.public_keys is not None:
        return policy.public_keys
    signature = goal.model.signature
    return signature.public_keys if signature else None


def still_counts(known: Vouched | None, policy: TrustPolicy) -> bool:
    """Tell whether what was verified here once needs no key any more: all but a revoked one."""
    return known is not None and known.signed_by not in policy.revoked


def files_digest(goal: Goal, content: OpenedModel) -> str:
    """Return what stands for the model's files as an engine sees them."""
    lines = sorted(f"{blob.path} {blob.sha256}" for blob in goal.blobs_beside)
    return hashlib.sha256("\n".join([content.sha256, *lines]).encode()).hexdigest()


@dataclass(frozen=True)
class Notary:
    """Finds the signature of a model and verifies it."""

    slots: Slots
    tuning: Tuning
    worker: Worker

    async def vouched(
        self, goal: Goal, content: OpenedModel, policy: TrustPolicy, known: Vouched | None
    ) -> Vouched | None:
        """Return who vouches for the model; None: nobody has to.

        What passed here before is known by its files and the key's fingerprint: a key that went
        since, or a source that cannot be reached, takes nothing away.

        Raises:
            Refused: SignatureInvalid; what `bundles_at` raises.
            Transient: the signature cannot be had now.
        """
        keys = counting_keys(goal, policy)
        if keys is None:
            return None
        files = files_digest(goal, content)
        if known is not None and known.files == files and still_counts(known, policy):
            return known
        bundles = await self._bundles(goal)
        key = await self.worker.run(_verify, goal, content, (keys, policy), bundles)
        return Vouched(key, files)

    async def _bundles(self, goal: Goal) -> Sequence[bytes]:
        kept = goal.bundle_blob
        if kept is not None:
            return [await self.worker.run(self.slots.path(kept).read_bytes)]
        # Imported late: a pod that starts from its disk pays neither for HTTP nor for keys.
        from skerry_runtime.agent.sources.bundles import bundles_at  # noqa: PLC0415
        from skerry_runtime.agent.sources.keyring import read_keyring  # noqa: PLC0415

        blob, signature = goal.model_blob, goal.model.signature
        place = (signature.uri if signature else None) or place_of_bundle(blob.uri)
        keyring = None
        if blob.secret is not None:
            keyring = await self.worker.run(read_keyring, self.tuning.sources_dir, blob.secret)
        return await bundles_at(place, blob.sha256, keyring, self.tuning)


def _verify(
    goal: Goal,
    content: OpenedModel,
    counting: tuple[Sequence[str], TrustPolicy],
    bundles: Sequence[bytes],
) -> str:
    try:
        keys, files = _keys(*counting), _files(goal, content)
    except ImportError as err:
        text = "this runtime image has no cryptography to verify with: use the one of this version"
        raise _refused(text) from err
    from skerry_runtime.trust.vouch import NotVouched, vouching_key  # noqa: PLC0415 (as above)

    reasons = []
    for bundle in bundles:
        try:
            return vouching_key(bundle, keys, files)
        except NotVouched as err:
            reasons.append(str(err))
    raise _refused(f"the model's signature does not vouch for it: {'; '.join(reasons[:2])}")


def _keys(pems: Sequence[str], policy: TrustPolicy) -> tuple[PublicKey, ...]:
    from skerry_runtime.trust.keys import BadKey, public_keys  # noqa: PLC0415 (as above)

    try:
        found = public_keys(pems)
    except BadKey as err:
        raise _refused(f"a public key that is to vouch for models here: {err}") from err
    return tuple(key for key in found if key.fingerprint not in policy.revoked)


def _files(goal: Goal, content: OpenedModel) -> Files:
    from skerry_runtime.trust.vouch import Files  # noqa: PLC0415 (as above)

    beside = {blob.path: blob.sha256 for blob in goal.blobs_beside}
    return Files(content.sha256, beside, content.hash_again)


def _refused(text: str) -> Refused:
    return Refused(FailureReason.SIGNATURE_INVALID, text)
