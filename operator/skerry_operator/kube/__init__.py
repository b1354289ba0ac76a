"""The only place that talks to the Kubernetes API server with the official client."""
