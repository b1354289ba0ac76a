"""What runs the process: its start and end, the queue and its workers, probes, lease and sweep."""
