"""The settings of the process -> what plans are bound to, for the operator and for the CLI."""

from __future__ import annotations

import ssl

from pydantic import ValidationError

from skerry_operator.api.bounds import STRICT
from skerry_operator.api.trustpolicy import SigningPolicy
from skerry_operator.api.v1alpha1.edgedeployment import RuntimeUpgrade
from skerry_operator.api.v1alpha1.edgedeployment_network import NetworkPeer
from skerry_operator.api.v1alpha1.edgedeployment_pods import PodExtras, is_ours
from skerry_operator.api.v1alpha1.edgemodel_optimize import OptimizeStore
from skerry_operator.manifests.buildjob import JobSettings
from skerry_operator.manifests.networkpolicy import NetworkDefaults
from skerry_operator.plan.model import OptimizeDefaults
from skerry_operator.plan.settings import PlanSettings
from skerry_operator.settings import BadSettings, OptimizeSettings, Settings, variable_of
from skerry_runtime.contract import (
    ENV_CA_BUNDLE,
    ENV_FETCH_ALLOW,
    ENV_HF_ENDPOINT,
    ENV_HTTPS_PROXY,
    ENV_NO_PROXY,
)


def plan_settings(settings: Settings) -> PlanSettings:
    """Return what the operator's administrator decides, as plans need it.

    Raises:
        BadSettings: a peer of the admin ports is none, pods cannot have what they are given, or
            the policy of signatures is none.
    """
    return PlanSettings(
        default_image=settings.runtime_image,
        flavor_images=settings.runtime_images,
        triton_image=settings.triton_image or None,
        upgrade=RuntimeUpgrade(settings.runtime_upgrade),
        fetch=_fetch(settings),
        accelerator_grace_s=settings.accelerator_grace_seconds,
        network=NetworkDefaults(settings.network_policies, _admin_peers(settings)),
        pods=_model_pods(settings),
        trust=_trust(settings),
        optimize=_optimize(settings),
    )


def _optimize(settings: Settings) -> OptimizeDefaults | None:
    given = settings.optimize
    if given is None:
        return None
    if problem := _store_problem(given):
        raise BadSettings(f"{variable_of('optimize')}: {problem}")
    jobs = JobSettings(given.image, _fetch(settings), _model_pods(settings), given.node_selector)
    return OptimizeDefaults(jobs, given.store, given.push_secret or None, given.pull_secret or None)


def _store_problem(given: OptimizeSettings) -> str:
    """Return why the usual store cannot be used; empty: it can, or there is none."""
    if not given.store:
        return ""
    secrets = {"push_secret_ref": given.push_secret, "pull_secret_ref": given.pull_secret}
    content = {name: {"name": one} for name, one in secrets.items() if one}
    try:
        OptimizeStore.model_validate({"uri": given.store, **content}, context=STRICT)
    except ValidationError as error:
        return f"store: {error.errors()[0]['msg']}"
    if given.store.startswith("s3://") and not all(secrets.values()):
        return "store: an s3:// store needs push_secret and pull_secret"
    return ""


def _fetch(settings: Settings) -> dict[str, str]:
    allow = ",".join(map(str, settings.fetch_allow))
    told = {
        ENV_FETCH_ALLOW: allow,
        ENV_HF_ENDPOINT: settings.hf_endpoint,
        ENV_HTTPS_PROXY: settings.https_proxy,
        ENV_NO_PROXY: settings.no_proxy if settings.https_proxy else "",
        ENV_CA_BUNDLE: _bundle(settings),
    }
    return {name: value for name, value in told.items() if value}


def _bundle(settings: Settings) -> str:
    """Return the authorities that pods are told of; one that no pod could read is found here."""
    if not settings.ca_bundle:
        return ""
    try:
        ssl.create_default_context().load_verify_locations(cadata=settings.ca_bundle)
    except (ssl.SSLError, ValueError) as error:
        variable = variable_of("ca_bundle")
        raise BadSettings(f"{variable}: write certificates in PEM form") from error
    return settings.ca_bundle


def _model_pods(settings: Settings) -> PodExtras:
    variable = variable_of("model_pods")
    try:
        extras = PodExtras.model_validate(settings.model_pods, extra="forbid", context=STRICT)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise BadSettings(f"{variable}: {place}: {first['msg']}") from error
    if taken := [key for key in (*extras.labels, *extras.annotations) if is_ours(key)]:
        raise BadSettings(f"{variable}: {taken[0]} is Skerry's own: choose another key")
    return extras


def _trust(settings: Settings) -> SigningPolicy:
    try:
        return SigningPolicy.model_validate(settings.policy, extra="forbid", context=STRICT)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise BadSettings(f"{variable_of('policy')}: {place}: {first['msg']}") from error


def _admin_peers(settings: Settings) -> tuple[NetworkPeer, ...]:
    variable = variable_of("admin_peers")
    try:
        peers = tuple(NetworkPeer.model_validate(peer) for peer in settings.admin_peers)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise BadSettings(f"{variable}: {place}: {first['msg']}") from error
    if not all(peer.to_dict() for peer in peers):
        names = "podSelector, namespaceSelector or ipBlock"
        raise BadSettings(f"{variable}: a peer has {names}, as in a NetworkPolicy")
    return peers
