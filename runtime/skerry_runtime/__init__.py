"""The Skerry runtime: serves one model, and swaps it without dropping a request."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("skerry")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
