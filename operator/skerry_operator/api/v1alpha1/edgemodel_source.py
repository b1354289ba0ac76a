"""Where files are: the sources that models, golden files, data and stores have in common."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from skerry_operator.api.addresses import ADDRESS, ASCII_ADDRESS, SOURCE_URI
from skerry_operator.api.base import Cel, KubeModel, SecretName, Sha256
from skerry_operator.api.bounds import PLAIN
from skerry_runtime.contract import MAX_FILES, FilePath

Uri = Annotated[
    str, StringConstraints(pattern=f"^{ADDRESS}$", min_length=8, max_length=2048), PLAIN, SOURCE_URI
]
"""Address of a file; credentials in it are refused, they would end up in logs and status."""


FileUri = Annotated[
    str, StringConstraints(pattern=f"^{ASCII_ADDRESS}$", min_length=8, max_length=2048)
]
"""The same in the characters that RFC 3986 has: a pattern costs the API server nothing, and the
rule for plain text would, in a list within a list."""

InputName = Annotated[str, StringConstraints(min_length=1, max_length=256), PLAIN]
Axis = Annotated[int, Field(ge=1, le=2**31 - 1)]
Shape = Annotated[tuple[Axis, ...], Field(max_length=8)]


class SourceSecret(KubeModel):
    """Names a Secret with credentials. The pods mount it; the operator never reads it."""

    name: SecretName
    """Name of the Secret, in the namespace of the EdgeDeployment."""


class Source(KubeModel):
    """Where a file is and what its bytes must hash to."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!self.uri.startsWith('s3://') || has(self.secretRef)",
            "an s3:// source needs secretRef: the Secret says which endpoint and keys to use",
        ),
    )

    uri: Uri
    """Address: https (or http), s3, oci, hf or pvc (docs/models.md). Pods fetch it; the
    operator never opens it."""
    sha256: Sha256
    """sha256 of the file in lower-case hex (`sha256sum FILE`)."""
    secret_ref: SourceSecret | None = None
    """Secret with what the source wants to see. It is shown only to hosts that the Secret itself
    names; docs/models.md lists its keys."""


class SourceFile(KubeModel):
    """A file that lies beside the one that the engine opens."""

    path: FilePath
    """Its place beside that file, as it names it: relative, no part begins with a dot."""
    uri: FileUri
    """Address, as that of the source, whose secretRef counts here too; any other character than
    RFC 3986 has is written as %XX."""
    sha256: Sha256
    """sha256 of the file in lower-case hex."""


class ModelSource(Source):
    """The file that an engine opens, and those that it needs beside it."""

    files: Annotated[tuple[SourceFile, ...], Field(max_length=MAX_FILES - 1)] = ()
    """The model's other files: external data of an ONNX model, for example. All lie in one folder,
    and nothing outside of it is opened."""
