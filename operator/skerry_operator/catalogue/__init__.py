"""Hardware facts: accelerator profiles as data."""
