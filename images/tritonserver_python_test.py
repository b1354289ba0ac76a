"""Assemble a Triton server whose only engine is Python: for tests, on machines without a GPU.

Usage: tritonserver_python_test.py PACKAGES STAND_IN TARGET MODULES

PACKAGES holds nvidia-pytriton, STAND_IN the backend in Python that answers to `onnxruntime`, and
MODULES what that imports, when it runs.
"""

import shutil
import sys
from pathlib import Path

STUB = "python_backend_stubs/3.11"
"""What runs the Python of the base image."""


def main() -> None:
    """Copy server, backends and stand-in, and make executable what is."""
    packages, stand_in, target, modules = map(Path, sys.argv[1:])
    server = packages / "pytriton" / "tritonserver"
    python = target / "backends" / "python"
    shutil.copytree(server / "bin", target / "bin")
    shutil.copytree(server / "backends" / "python", python)
    shutil.copytree(server / STUB, python, dirs_exist_ok=True)
    shutil.copytree(stand_in, target / "backends" / "onnxruntime")
    for file in (*(target / "bin").iterdir(), *python.iterdir()):
        file.chmod(0o755)
    make_environment(target / "python", modules)


def make_environment(folder: Path, modules: Path) -> None:
    """Make a virtual environment: the stub finds modules by the first python3 on its path."""
    packages = folder / "lib" / "python3.11" / "site-packages"
    for parent in (packages.parent, folder / "bin"):
        parent.mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (folder / "bin" / "python3").symlink_to("/usr/bin/python3.11")
    packages.symlink_to(modules)


if __name__ == "__main__":
    main()
