"""Reads what pods report about themselves."""
