"""The cache as a process: `skerry-runtime cache`, with TLS, in little memory."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from site_cache import put_keys
from skerry_operator.sitekeys import make_keys
from skerry_runtime.cache.settings import BadCacheSetting, CacheSettings

COMMAND = [sys.executable, "-P", "-m", "skerry_runtime", "cache"]
MOST_MIB = 40


def environment(root: Path, **settings: str) -> dict[str, str]:
    named = {"DATA_DIR": str(root / "data"), "KEYS_DIR": str(root / "keys"), "HOST": "127.0.0.1"}
    named |= {"PORT": "0", "RESERVE": "0"} | settings
    return os.environ | {f"SKERRY_CACHE_{name}": value for name, value in named.items()}


def test_it_serves_over_tls_in_little_memory_and_ends_when_told(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    for name, content in make_keys().items():
        (tmp_path / "keys" / name).write_bytes(content)
    env = environment(tmp_path)
    with subprocess.Popen(COMMAND, env=env, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            lines = iter(process.stderr.readline, "")
            port = next(m[1] for line in lines if (m := re.search(r"listens at port (\d+)", line)))
            trust = ssl.create_default_context(cafile=str(tmp_path / "keys/tls.crt"))
            trust.check_hostname = False  # by the name in the certificate: see the agent's tests
            address = f"https://127.0.0.1:{port}/healthz"
            with urllib.request.urlopen(address, context=trust, timeout=20) as answer:
                assert answer.status == 200
            status = Path(f"/proc/{process.pid}/status").read_text()
            resident = re.search(r"VmRSS:\s+(\d+) kB", status)
            assert resident is not None
            assert int(resident[1]) / 1024 < MOST_MIB
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"SIZE": "lots"}, "SKERRY_CACHE_SIZE='lots': write a size such as 10Gi"),
        ({"PORT": "70000"}, "SKERRY_CACHE_PORT: write a port"),
        ({"CLAIMS": "none"}, "SKERRY_CACHE_CLAIMS='none': write a number"),
        ({"CLAIMS": "0"}, "SKERRY_CACHE_CLAIMS: write between 1 and 64"),
        ({}, "cannot start"),
    ],
)
def test_it_says_why_it_does_not_start(tmp_path: Path, settings: dict[str, str], said: str) -> None:
    put_keys(tmp_path / "keys", Ed25519PrivateKey.generate())  # and no certificate
    done = subprocess.run(
        COMMAND,
        check=False,
        env=environment(tmp_path, **settings),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode in (1, 2)
    assert said in done.stderr


def test_a_namespace_has_half_of_the_cache_where_nothing_else_is_set() -> None:
    assert CacheSettings(size="2Gi").limits.quota_bytes == 2**30
    assert CacheSettings(size="2Gi", quota="3Gi").limits.quota_bytes == 2**31
    with pytest.raises(BadCacheSetting):
        CacheSettings(size="1Ki").check()
