"""The gRPC port on our own HTTP/2: connections, calls, and REST beside them."""
