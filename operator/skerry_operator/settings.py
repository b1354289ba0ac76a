"""Settings of the operator process: read once at start from the environment, frozen."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Mapping
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

PREFIX = "SKERRY_"
"""Every environment variable is this and the field's name in capitals."""

MAX_NETWORKS = 64
"""As many as a pod takes."""

Name = Annotated[
    str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
]


class StatusAccess(StrEnum):
    """How the operator reads a pod's /status."""

    POD_IP = "PodIP"  # straight to the pod's address
    PROXY = "Proxy"  # through the API server, where pod addresses are not routed


class LogFormat(StrEnum):
    """Form of a log line."""

    JSON = "json"
    TEXT = "text"


class LogLevel(StrEnum):
    """Least severity that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class BadSettings(ValueError):  # noqa: N818 (it says what is bad)
    """A setting is missing or wrong; the text names the variable and the remedy."""


class SiteCacheSettings(BaseModel):
    """How the caches of sites are made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    site_label: Annotated[str, Field(min_length=1, max_length=317)] = "topology.kubernetes.io/zone"
    """Key of the node label that names a site."""
    size: Annotated[str, Field(pattern=r"^[0-9]{1,9}(Mi|Gi|Ti)$")] = "10Gi"
    quota: Annotated[str, Field(pattern=r"^([0-9]{1,9}(Mi|Gi|Ti))?$")] = ""
    """What one namespace may have; empty: half of the size."""
    storage_class: Annotated[str, Field(max_length=253)] = ""
    """Empty: the cluster's default."""
    claims: Annotated[int, Field(ge=1, le=64)] = 1
    """Downloads of a site at one time."""
    memory: Annotated[str, Field(pattern=r"^[0-9]{1,6}(Mi|Gi)$")] = "96Mi"
    tolerations: tuple[dict[str, Any], ...] = ()
    priority_class: Annotated[str, Field(max_length=253)] = ""
    pull_secrets: tuple[Name, ...] = ()
    secret: Name = "skerry-site-cache"  # noqa: S105 (a name)
    """Secret with the keys; it is made if there is none."""
    owner: Name | None = None
    """ConfigMap that the caches go with; none: they stay."""
    keys_dir: Path = Path("/etc/skerry-site-cache")
    """Where that Secret is mounted."""


class OptimizeSettings(BaseModel):
    """How builds of models are made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: Annotated[str, Field(min_length=1, max_length=512)]
    """Image of the Jobs."""
    store: Annotated[str, Field(max_length=1024)] = ""
    """Where builds are put when a model does not say; empty: each model has to."""
    push_secret: Annotated[str, Field(max_length=253)] = ""
    """Secret to write there with, looked for in the model's namespace."""
    pull_secret: Annotated[str, Field(max_length=253)] = ""
    """Secret that model pods read there with."""
    jobs: Annotated[int, Field(ge=1, le=1000)] = 4
    """Jobs that run at one time."""
    jobs_per_namespace: Annotated[int, Field(ge=1, le=1000)] = 2
    """The same of one namespace."""
    node_selector: Annotated[dict[str, str], Field(max_length=16)] = Field(default_factory=dict)
    """Labels that the Jobs' nodes have."""


class Settings(BaseModel):
    """All that can be set from outside."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    runtime_image: Annotated[str, Field(min_length=1, max_length=512)]
    """Image of the runtime where neither profile nor spec names one."""
    runtime_images: dict[str, str] = Field(default_factory=dict)
    """Images of other flavors, `flavor=image` with commas between; `cpu` is runtime_image."""
    triton_image: Annotated[str, Field(max_length=512)] = ""
    """Image of the Triton server for deployments that name the engine and no image; empty: none."""
    runtime_upgrade: Literal["Pinned", "WithNextChange", "Rollout"] = "Pinned"
    """What becomes of pods that run in other runtime images than these, where the deployment does
    not say it itself: Pinned, WithNextChange or Rollout."""
    fetch_allow: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks that pods may fetch models from although they are out of bounds else (loopback,
    link-local, cloud metadata, ...), with commas between; pods that run are not replaced for it."""
    hf_endpoint: Annotated[str, Field(pattern=r"^(https?://[^\s@?#]+)?$", max_length=512)] = ""
    """What answers for hf:// addresses, such as a mirror on site; empty: https://huggingface.co."""
    https_proxy: Annotated[str, Field(pattern=r"^(https?://[^\s@?#/]+/?)?$", max_length=512)] = ""
    """Proxy by which pods ask https addresses for models; empty: directly."""
    no_proxy: Annotated[str, Field(pattern=r"^[\w.:/*,\[\] -]*$", max_length=4096)] = ""
    """Names and networks that pods ask directly all the same, with commas between."""
    ca_bundle: Annotated[str, Field(max_length=64 * 1024)] = ""
    """Certificates, in PEM form, of authorities that pods believe besides the system's when they
    fetch models; pods that run are not replaced for it."""
    namespaces: tuple[Name, ...] = ()
    """Namespaces to serve, comma-separated; empty: all."""
    profiles: Path | None = None
    """YAML file with accelerator profiles that are merged over the built-in ones."""
    status_access: StatusAccess = StatusAccess.POD_IP
    """PodIP or Proxy."""
    status_timeout_seconds: Annotated[float, Field(gt=0, le=30)] = 2.0
    """Longest time for one pod's /status."""
    status_concurrency: Annotated[int, Field(ge=1, le=1024)] = 64
    """Pods that are read at one time, over all deployments."""
    idle_period_seconds: Annotated[float, Field(ge=1, le=3600)] = 60.0
    """How often the pods of a deployment are read while nothing is under way."""
    prometheus_url: Annotated[str, Field(max_length=512)] = ""
    """Prometheus that analysis queries go to, for example https://prometheus.monitoring:9090."""
    prometheus_token_file: Path | None = None
    """File with the bearer token for Prometheus; wants an https address."""
    prometheus_ca_file: Path | None = None
    """File with the CA certificates of Prometheus, instead of the system's."""
    prometheus_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    """Longest time for one answer of Prometheus."""
    site_cache: SiteCacheSettings | None = None
    """How the caches of sites are made, as JSON; none: there are no caches."""
    optimize: OptimizeSettings | None = None
    """How builds of models are made, as JSON; none: they are not, and no Job is watched."""
    network_policies: bool = False
    """Make a NetworkPolicy for each deployment that does not say itself whether it wants one."""
    admin_peers: tuple[dict[str, Any], ...] = ()
    """Who reaches the admin ports of pods with a NetworkPolicy: peers of one, as a JSON list."""
    model_pods: dict[str, Any] = Field(default_factory=dict)
    """What all model pods have besides: `spec.pods` of an EdgeDeployment, as JSON."""
    policy: dict[str, Any] = Field(default_factory=dict)
    """Whose signatures count for models: `{"signatures": [{"namespaces": [...], "publicKeys":
    [...]}], "revokedKeys": [...]}`, as JSON; pods that run are not replaced for it."""
    accelerator_grace_seconds: Annotated[float, Field(ge=0, le=86400)] = 300.0
    """How long a unit stays on a node whose accelerator is not allocatable."""
    resync_period_seconds: Annotated[float, Field(ge=60, le=86400)] = 1800.0
    """How often the cache is compared with the names that exist in the cluster."""
    workers: Annotated[int, Field(ge=1, le=256)] = 8
    """Objects that are reconciled at one time."""
    lease: bool = True
    """False: no leader election; only for one local process."""
    lease_namespace: Name = "skerry-system"
    """Namespace of the Lease."""
    lease_name: Name = "skerry-operator"
    """Name of the Lease."""
    lease_owner: Name | None = None
    """Deployment of the operator, beside the Lease, which goes with it; none: the Lease stays."""
    identity: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        default_factory=lambda: f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
    )
    """Name of this process in the Lease and in events."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port of /metrics, /healthz and /readyz; 0: none."""
    silence_seconds: Annotated[float, Field(ge=30, le=86400)] = 600.0
    """Liveness fails when a watch was not renewed, or a worker not done, for so long."""
    log_level: LogLevel = LogLevel.INFO
    """debug, info, warning or error."""
    log_format: LogFormat = LogFormat.JSON
    """json or text."""

    @field_validator("fetch_allow", mode="before")
    @classmethod
    def _split_into_networks(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        parts = [part.strip() for part in value.split(",") if part.strip()]
        if len(parts) > MAX_NETWORKS:
            raise ValueError(f"name at most {MAX_NETWORKS} networks")
        try:
            return tuple(ip_network(part) for part in parts)
        except ValueError as error:
            raise ValueError(f"{error}: write networks such as 10.0.0.0/8") from error

    @field_validator("namespaces", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("runtime_images", mode="before")
    @classmethod
    def _split_into_pairs(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [part.strip().partition("=") for part in value.split(",") if part.strip()]
        if any(not flavor or not image for flavor, _, image in pairs):
            raise ValueError("write flavor=image, with commas between")
        return {flavor: image for flavor, _, image in pairs}

    @field_validator("admin_peers", "model_pods", "policy", "site_cache", "optimize", mode="before")
    @classmethod
    def _read_json(cls, value: object, info: ValidationInfo) -> object:
        if not isinstance(value, str):
            return value
        what = {"admin_peers": "list of NetworkPolicy peers"}.get(str(info.field_name), "object")
        try:
            return json.loads(value)
        except ValueError as error:
            raise ValueError(f"write a JSON {what}: {error}") from error

    @field_validator("prometheus_url", mode="after")
    @classmethod
    def _must_be_an_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in {"http", "https"} or not parts.hostname):
            raise ValueError("write http://HOST:PORT or https://HOST:PORT")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("write no user, query or fragment: a token has a setting of its own")
        return value

    @field_validator("prometheus_token_file", mode="after")
    @classmethod
    def _must_not_be_overheard(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None and not info.data.get("prometheus_url", "").startswith("https://"):
            raise ValueError("the token would go out in the clear: use an https prometheus_url")
        return value

    @field_validator("profiles", "prometheus_token_file", "prometheus_ca_file", mode="after")
    @classmethod
    def _must_be_a_file(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError("no such file")
        return value


def variable_of(field: str) -> str:
    """Return the environment variable of a field: `runtime_image` -> `SKERRY_RUNTIME_IMAGE`."""
    return PREFIX + field.upper()


def read_settings(environment: Mapping[str, str], flags: Mapping[str, Any]) -> Settings:
    """Return the settings; a flag that is not None goes before its environment variable.

    Raises:
        BadSettings: a value is missing or wrong.
    """
    named = {field: environment.get(variable_of(field)) for field in Settings.model_fields}
    values = {field: text for field, text in named.items() if text not in (None, "")}
    values |= {field: value for field, value in flags.items() if value is not None}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise BadSettings(_explain(error)) from error


def _explain(error: ValidationError) -> str:
    return "; ".join(_explain_one(str(item["loc"][0]), item["msg"]) for item in error.errors())


def _explain_one(field: str, message: str) -> str:
    flag = "--" + field.replace("_", "-")
    return f"{variable_of(field)} (or {flag}): {message[0].lower()}{message[1:]}"
