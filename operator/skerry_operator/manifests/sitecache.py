"""The objects of one site's cache: a StatefulSet of one pod, its Service and its NetworkPolicy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skerry_operator.constants import ANNOTATION_DIGEST, LABEL_DEPLOYMENT, LABEL_GATEWAY, LABEL_SITE
from skerry_operator.decide.names import bounded
from skerry_operator.decide.planned import Manifest, ObjectRef
from skerry_operator.decide.revision import content_hash
from skerry_operator.decide.sites import NO_SITE
from skerry_operator.manifests.metadata import DIGEST_LENGTH
from skerry_operator.settings import SiteCacheSettings

PORT = 8443
DATA_DIR, KEYS_DIR = "/var/lib/skerry-cache", "/etc/skerry-cache"
USER_ID = 65532
SITE_KINDS = {
    "NetworkPolicy": "networking.k8s.io/v1",
    "Service": "v1",
    "StatefulSet": "apps/v1",
}
"""What a site's cache is made of. Its PersistentVolumeClaim is the StatefulSet's, and stays."""
_NAME_LIMIT = 52  # a StatefulSet's pods carry it in a label, with a hash behind it


@dataclass(frozen=True)
class CachePlace:
    """Where the caches are made, and from what."""

    namespace: str
    image: str
    settings: SiteCacheSettings
    owner: Mapping[str, Any] | None = None
    """Reference of the object that they go with; None: they stay."""


def cache_name(site: str) -> str:
    """Return the name of a site's objects."""
    return bounded(f"skerry-site-{site.lower().replace('_', '-')}", _NAME_LIMIT)


def site_manifests(place: CachePlace, site: str) -> tuple[Manifest, ...]:
    """Return the objects of a site: what guards the pod comes before it."""
    return (
        _manifest(place, site, "NetworkPolicy", _policy(site)),
        _manifest(place, site, "Service", _service(site)),
        _manifest(place, site, "StatefulSet", _stateful_set(place, site)),
    )


def _manifest(place: CachePlace, site: str, kind: str, spec: Mapping[str, Any]) -> Manifest:
    metadata: dict[str, Any] = {
        "name": cache_name(site),
        "namespace": place.namespace,
        "labels": _labels(site),
    }
    if place.owner:
        metadata["ownerReferences"] = [dict(place.owner)]
    body = {"apiVersion": SITE_KINDS[kind], "kind": kind, "metadata": metadata, "spec": spec}
    digest = content_hash(body, DIGEST_LENGTH)
    metadata["annotations"] = {ANNOTATION_DIGEST: digest}
    return Manifest(ObjectRef(SITE_KINDS[kind], kind, cache_name(site)), body, digest)


def _labels(site: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": "skerry-site-cache", LABEL_SITE: bounded(site)}


def _policy(site: str) -> dict[str, Any]:
    """Let the model pods of all namespaces in, and the cache itself nowhere."""
    peer = {
        "namespaceSelector": {},
        "podSelector": {"matchExpressions": [{"key": LABEL_DEPLOYMENT, "operator": "Exists"}]},
    }
    return {
        "podSelector": {"matchLabels": _labels(site)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [peer], "ports": [{"port": "https", "protocol": "TCP"}]}],
        "egress": [],
    }


def _service(site: str) -> dict[str, Any]:
    return {
        "selector": _labels(site),
        "ports": [{"name": "https", "port": PORT, "targetPort": "https", "protocol": "TCP"}],
    }


def _stateful_set(place: CachePlace, site: str) -> dict[str, Any]:
    settings = place.settings
    claim: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": settings.size}},
    }
    if settings.storage_class:
        claim["storageClassName"] = settings.storage_class
    return {
        "replicas": 1,
        "serviceName": cache_name(site),
        "selector": {"matchLabels": _labels(site)},
        "template": {"metadata": {"labels": _labels(site)}, "spec": _pod(place, site)},
        "volumeClaimTemplates": [
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}}
            | {"spec": claim}
        ],
    }


def _pod(place: CachePlace, site: str) -> dict[str, Any]:
    settings = place.settings
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "affinity": {"nodeAffinity": _on_gateway(settings.site_label, site)},
        "tolerations": list(settings.tolerations),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(place)],
        "volumes": [{"name": "keys", "secret": {"secretName": settings.secret, "items": _items()}}],
    }
    if settings.priority_class:
        spec["priorityClassName"] = settings.priority_class
    if settings.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in settings.pull_secrets]
    return spec


def _items() -> list[dict[str, str]]:
    """Return the keys that a cache needs: not the one that signs tickets."""
    return [{"key": name, "path": name} for name in ("ticket.pub", "tls.crt", "tls.key")]


def _on_gateway(label: str, site: str) -> dict[str, Any]:
    here = {"key": label, "operator": "In", "values": [site]}
    if site == NO_SITE:
        here = {"key": label, "operator": "DoesNotExist"}
    gateway = {"key": LABEL_GATEWAY, "operator": "In", "values": ["true"]}
    term = {"matchExpressions": [gateway, here]}
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}


def _probe(period_s: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": "/healthz", "port": "https", "scheme": "HTTPS"},
        "periodSeconds": period_s,
        "failureThreshold": failures,
        "timeoutSeconds": 5,
    }


def _container(place: CachePlace) -> dict[str, Any]:
    settings = place.settings
    environment = {
        "SKERRY_CACHE_DATA_DIR": DATA_DIR,
        "SKERRY_CACHE_KEYS_DIR": KEYS_DIR,
        "SKERRY_CACHE_PORT": str(PORT),
        "SKERRY_CACHE_SIZE": settings.size,
        "SKERRY_CACHE_CLAIMS": str(settings.claims),
        **({"SKERRY_CACHE_QUOTA": settings.quota} if settings.quota else {}),
    }
    return {
        "name": "cache",
        "image": place.image,
        "args": ["cache"],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "ports": [{"name": "https", "containerPort": PORT, "protocol": "TCP"}],
        "startupProbe": _probe(period_s=2, failures=60),
        "livenessProbe": _probe(period_s=20, failures=6),
        "readinessProbe": _probe(period_s=10, failures=3),
        "resources": {
            "requests": {"cpu": "10m", "memory": settings.memory},
            "limits": {"memory": settings.memory},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "data", "mountPath": DATA_DIR},
            {"name": "keys", "mountPath": KEYS_DIR, "readOnly": True},
        ],
    }
