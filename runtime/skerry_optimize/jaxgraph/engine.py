"""JAX as it is used here: one thread, 32 bits, on the CPU, so that two runs make the same bytes."""

from __future__ import annotations

import os

_FLAGS = {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "0"}
_XLA = "--xla_cpu_multi_thread_eigen=false"


def prepare() -> None:
    """Set what JAX reads when it is imported first; what an administrator set stays."""
    for name, value in _FLAGS.items():
        os.environ.setdefault(name, value)
    if _XLA not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_XLA}".strip()
