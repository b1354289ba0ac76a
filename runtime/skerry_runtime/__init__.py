"""The Skerry runtime: serves one model, and swaps it without dropping a request."""

__version__ = "0.1.0"
"""Version of the whole distribution; the build reads it here, and images carry no metadata."""
