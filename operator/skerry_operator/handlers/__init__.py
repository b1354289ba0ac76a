"""The only place that knows kopf: events in, keys of what to look at out."""
