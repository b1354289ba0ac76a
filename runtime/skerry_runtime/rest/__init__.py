"""Open Inference Protocol over HTTP, and the admin port: an HTTP server and two thin adapters."""
