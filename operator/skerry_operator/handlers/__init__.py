"""The only place that imports kopf: events in, keys on the queue."""
