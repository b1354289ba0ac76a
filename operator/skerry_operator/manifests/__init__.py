"""Typed input -> Kubernetes objects, one file per kind. Pure."""
