"""A person's way into a cluster: their kubeconfig, its contexts and its namespace."""

from __future__ import annotations

import os
from dataclasses import dataclass

from kubernetes import client as official
from kubernetes import config as official_config

from skerry_operator.kube.client import KubeClient
from skerry_operator.kube.errors import KubeError
from skerry_operator.telemetry import Telemetry
from skerry_runtime import __version__

CLI_MANAGER = "skerry-cli"
"""Field manager of what people write with the command line."""


class NoCluster(KubeError):  # noqa: N818 (a named outcome, as its siblings)
    """No kubeconfig, or one that cannot be used; the text says which."""


@dataclass(frozen=True)
class Access:
    """A cluster as one person reaches it."""

    client: KubeClient
    namespace: str
    """The one of the kubeconfig's context."""


def open_access(kubeconfig: str | None = None, context: str | None = None) -> Access:
    """Return the cluster of the given or the usual kubeconfig, or the one around this pod.

    Raises:
        NoCluster: there is none.
    """
    configuration = official.Configuration()
    try:
        namespace = _load(configuration, kubeconfig, context)
    except (official_config.ConfigException, OSError) as error:
        raise NoCluster(
            f"no cluster: {error}: name a kubeconfig with --kubeconfig or KUBECONFIG"
        ) from error
    configuration.retries = False  # a person tries again, or not
    api = official.ApiClient(configuration)
    api.user_agent = f"{CLI_MANAGER}/{__version__}"
    return Access(KubeClient(api, Telemetry(), CLI_MANAGER), namespace)


def _load(
    configuration: official.Configuration, kubeconfig: str | None, context: str | None
) -> str:
    """Fill the configuration in; return the namespace."""
    named = kubeconfig or os.environ.get("KUBECONFIG")
    if not named and "KUBERNETES_SERVICE_HOST" in os.environ:
        official_config.load_incluster_config(  # type: ignore[no-untyped-call] # the official client's types are partial
            client_configuration=configuration
        )
        return "default"
    official_config.load_kube_config(  # type: ignore[no-untyped-call] # same
        config_file=kubeconfig, context=context, client_configuration=configuration
    )
    contexts, active = official_config.list_kube_config_contexts(  # type: ignore[no-untyped-call] # same
        config_file=kubeconfig
    )
    chosen = next((one for one in contexts if one["name"] == context), active)
    return str(chosen["context"].get("namespace") or "default")
