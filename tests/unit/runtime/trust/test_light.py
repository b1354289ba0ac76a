"""What signatures and encryption cost a pod that asks for neither: nothing."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
import skerry_runtime.agent.agent
import skerry_runtime.agent.fetch
import skerry_runtime.agent.probe_child
found = {name.partition(".")[0] for name in sys.modules}
print(*sorted(found & {"cryptography", "pyrage", "cffi", "_cffi_backend"}))
print(*sorted(name for name in sys.modules if name.startswith("skerry_runtime.trust")))
"""


def test_a_pod_imports_neither_before_a_model_asks_for_it() -> None:
    argv = [sys.executable, "-P", "-c", CODE]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
