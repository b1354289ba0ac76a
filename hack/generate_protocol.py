"""Generate the gRPC messages from their .proto files: `python hack/generate_protocol.py [--check]`.

protoc's output registers itself in protobuf's default descriptor pool. Every other library that
brings the same protocol (the reference client does) registers the same names there, and the
second one in a process fails. So each generated module is given a pool of its own.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent / "runtime"
PACKAGE = "skerry_runtime/rpc/generated"
SOURCE = "skerry_runtime/protocol"
PROTOCOLS = ("oip", "health", "reflection")
NAMES = tuple(f"{name}_pb2.{ending}" for name in PROTOCOLS for ending in ("py", "pyi"))

SHARED_POOL = "_descriptor_pool.Default()"
OWN_POOL = "_descriptor_pool.DescriptorPool()"


def generate(target: Path) -> None:
    """Write the generated files under the folder `target`."""
    arguments = [
        "protoc",
        f"-I{PACKAGE}={ROOT / SOURCE}",  # the module's place, whatever the source's
        f"--python_out={target}",
        f"--pyi_out={target}",
        *(f"{PACKAGE}/{name}.proto" for name in PROTOCOLS),
    ]
    if protoc.main(arguments) != 0:
        sys.exit("protoc failed")
    for name in PROTOCOLS:
        _give_pool(target / PACKAGE / f"{name}_pb2.py")


def _give_pool(module: Path) -> None:
    text = module.read_text()
    if text.count(SHARED_POOL) != 1:
        sys.exit(f"{module.name}: expected {SHARED_POOL} once; has protoc's output changed?")
    module.write_text(text.replace(SHARED_POOL, OWN_POOL))


def is_current() -> bool:
    """Tell whether the files in the tree are what the source yields."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        return all(
            (Path(folder) / PACKAGE / name).read_bytes() == (ROOT / PACKAGE / name).read_bytes()
            for name in NAMES
        )


def main() -> None:
    """Write the files, or with --check only compare them."""
    if "--check" not in sys.argv[1:]:
        generate(ROOT)
    elif not is_current():
        sys.exit("the generated protocol is stale: run `make generate`")


if __name__ == "__main__":
    main()
