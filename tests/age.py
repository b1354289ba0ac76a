"""The age command line, which encrypts what we decrypt."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from skerry_cluster import tools
from skerry_cluster.settings import Layout


@dataclass(frozen=True)
class AgeKey:
    """An identity file, and who may encrypt for it."""

    identity: str
    recipient: str


@cache
def _program(name: str) -> str:
    return str(tools.ensure(Layout.from_environment(), tools.AGE)[name])


def age_key() -> AgeKey:
    """Make a key as people do."""
    identity = subprocess.run([_program("age-keygen")], check=True, capture_output=True, text=True)
    recipient = subprocess.run(
        [_program("age-keygen"), "-y"],
        input=identity.stdout,
        check=True,
        capture_output=True,
        text=True,
    )
    return AgeKey(identity.stdout, recipient.stdout.strip())


def age(body: bytes, *recipients: str, armor: bool = False) -> bytes:
    """Encrypt for some recipients."""
    flags = [flag for one in recipients for flag in ("-r", one)]
    argv = [_program("age"), *(["-a"] if armor else []), *flags]
    return subprocess.run(argv, input=body, check=True, capture_output=True).stdout


def opens(sealed: bytes, key: AgeKey, folder: Path) -> bytes:
    """Decrypt with the command line."""
    (folder / "identity").write_text(key.identity)
    argv = [_program("age"), "-d", "-i", folder / "identity"]
    return subprocess.run(argv, input=sealed, check=True, capture_output=True).stdout
