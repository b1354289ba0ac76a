"""Open Inference Protocol over gRPC: a thin adapter of the data plane."""
