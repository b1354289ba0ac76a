"""Reads what pods report about themselves, and what Prometheus answers."""
