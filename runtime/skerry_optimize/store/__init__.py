"""Where builds are kept: a registry or an S3 bucket, with a note of each job that was done."""

from __future__ import annotations

from skerry_optimize.errors import BadPlan
from skerry_optimize.store.base import BuildStore
from skerry_optimize.store.oci import OciStore
from skerry_optimize.store.s3 import S3Store
from skerry_runtime.agent.ports import Tuning
from skerry_runtime.agent.sources.keyring import Keyring


def store_of(uri: str, credentials: Keyring | None, tuning: Tuning) -> BuildStore:
    """Return the store at an address.

    Raises:
        BadPlan: there is none of that kind.
        Refused: the address or the Secret will not do.
    """
    if uri.startswith("oci://"):
        return OciStore(uri, credentials, tuning)
    if uri.startswith("s3://") and credentials is not None:
        return S3Store(uri, credentials, tuning)
    if uri.startswith("s3://"):
        raise BadPlan("an s3:// store needs pushSecretRef: the Secret says which endpoint to use")
    raise BadPlan(f"{uri}: a store is oci://REGISTRY/REPOSITORY or s3://BUCKET/PREFIX")
