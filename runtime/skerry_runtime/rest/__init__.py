"""Open Inference Protocol over HTTP, and the admin port: thin ASGI adapters."""
