"""How a pod is told who it is, and where it finds its files: names that both sides write."""

from __future__ import annotations

ASSIGNMENT_FILE = "assignment.json"
"""Key of the cell's ConfigMap, and so the file's name in the mounted folder."""

ASSIGNMENT_DIR = "/etc/skerry"
"""Where the cell's ConfigMap is mounted."""

SLOTS_DIR = "/var/lib/skerry"
"""Where the pod keeps model files (an emptyDir: it outlives containers, not the pod)."""

ADMIN_PORT = 8082
"""Port of /status, /metrics, /healthz and /readyz."""

ENV_UNIT = "SKERRY_UNIT"
"""Environment variable that names the unit this pod is (the node's name in PerNode)."""

ENV_HTTP_PORT = "SKERRY_HTTP_PORT"
"""Environment variable with the REST port."""

ENV_GRPC_PORT = "SKERRY_GRPC_PORT"
"""Environment variable with the gRPC port."""

ENV_SLOTS_LIMIT_BYTES = "SKERRY_SLOTS_LIMIT_BYTES"
"""Environment variable with the size limit of the slots; absent: the disk's free space counts."""

ENV_TLS_DIR, TLS_DIR = "SKERRY_TLS_DIR", "/etc/skerry-tls"
"""Environment variable with the folder of the certificate, and where it is mounted."""

ENV_FETCH_ALLOW = "SKERRY_FETCH_ALLOW"
"""Networks to fetch from that are else out of bounds, with commas between."""

ENV_HF_ENDPOINT = "SKERRY_HF_ENDPOINT"
"""What answers for hf:// addresses; absent: the public hub."""

ENV_HTTPS_PROXY = "SKERRY_HTTPS_PROXY"
"""Proxy by which https addresses are asked; absent: directly."""

ENV_NO_PROXY = "SKERRY_NO_PROXY"
"""Names and networks that are asked directly all the same."""

ENV_CA_BUNDLE = "SKERRY_CA_BUNDLE"
"""Certificates of authorities that pods believe besides the system's, in PEM form."""

ENV_TOKEN_DIR, TOKEN_DIR = "SKERRY_TOKEN_DIR", "/etc/skerry-tokens"
"""Environment variable with the folder of the bearer tokens, and where it is mounted."""

SOURCES_DIR = "/etc/skerry-sources"
"""Where the Secrets of sources are mounted, each in a folder of its name."""

CLAIMS_DIR = "/mnt/skerry-claims"
"""Where the volumes of pvc:// sources are mounted, each in a folder of its claim's name."""

ENV_ENGINE = "SKERRY_ENGINE"
"""Environment variable with the engine; absent: the file's format decides."""

ENV_TRITON_URL = "SKERRY_TRITON_URL"
"""Environment variable with the address of the Triton server that is beside the runtime."""

TRITON_REPOSITORY = f"{SLOTS_DIR}/triton"
"""Where both find the server's models: on the volume of the slots, which holds the files."""
