"""Keeps a cache at every site that has a gateway, and knows where they are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from skerry_operator.decide.placement.nodes import Node
from skerry_operator.decide.sites import SiteCaches, sites_with_gateway
from skerry_operator.kube.client import KubeClient, Threads
from skerry_operator.kube.errors import KubeError
from skerry_operator.kube.sitecaches import (
    FoundObject,
    apply_caches,
    create_keys,
    list_caches,
    owner_reference,
)
from skerry_operator.manifests.sitecache import PORT, CachePlace, cache_name, site_manifests
from skerry_operator.settings import Settings, SiteCacheSettings
from skerry_operator.sitekeys import TicketSigner, make_keys, read_signer

PERIOD_S = 10.0
TICKETS = 20_000
"""Signatures that are kept."""

log = logging.getLogger(__name__)


class SiteKeeping:
    """Makes and removes the caches; what it knows is there for every plan."""

    def __init__(
        self,
        settings: Settings,
        client: KubeClient,
        threads: Threads,
        nodes: Callable[[], Iterable[Node]],
        changed: Callable[[], None],
    ) -> None:
        self._all = settings
        self._client = client
        self._threads = threads
        self._nodes = nodes
        self._changed = changed
        self._signer: TicketSigner | None = None
        self._caches: SiteCaches | None = None
        self._problem = ""

    @property
    def caches(self) -> SiteCaches | None:
        """Return the caches that there are; None: that is not known yet."""
        return self._caches

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self.look()
            await asyncio.sleep(PERIOD_S)

    async def look(self) -> None:
        """Look once; what goes wrong is told when it is news, and tried again."""
        problem = ""
        try:
            await self._keep(self._all.site_cache)
        except (KubeError, OSError, ValueError) as error:
            problem = str(error)
        if problem and problem != self._problem:
            log.warning("the site caches are not as they ought to be: %s", problem)
        self._problem = problem

    async def _keep(self, settings: SiteCacheSettings | None) -> None:
        sites = sites_with_gateway(self._nodes(), settings.site_label) if settings else {}
        if settings is None or not sites:
            if settings is not None and await self._has_left_overs():
                await self._write(settings, [])
            self._know(SiteCaches(settings.site_label if settings else "", "", {}, _no_ticket))
            return
        self._signer = self._signer or await self._keys(settings)
        if self._signer is None:
            return  # the kubelet brings the keys in a while
        urls = _urls(list(sites), await self._write(settings, list(sites)))
        ticket = lru_cache(TICKETS)(
            self._signer.ticket
        )  # each look at a deployment asks for its own
        self._know(SiteCaches(settings.site_label, self._signer.ca, urls, ticket))

    async def _has_left_overs(self) -> bool:
        """Tell whether there may be caches although no site has a gateway."""
        if self._caches is None:
            return bool(await self._found())
        return bool(self._caches.urls)

    def _know(self, caches: SiteCaches) -> None:
        if caches != self._caches:
            self._caches = caches
            self._changed()

    async def _found(self) -> tuple[FoundObject, ...]:
        return await self._threads.run(list_caches, self._client, self._all.lease_namespace)

    async def _write(
        self, settings: SiteCacheSettings, sites: list[str]
    ) -> tuple[FoundObject, ...]:
        namespace = self._all.lease_namespace
        owner = await self._owner(settings) if sites else None
        place = CachePlace(namespace, self._all.runtime_image, settings, owner)
        wanted = [manifest for site in sites for manifest in site_manifests(place, site)]
        found = await self._found()
        return await self._threads.run(apply_caches, self._client, namespace, wanted, found)

    async def _owner(self, settings: SiteCacheSettings) -> Mapping[str, str] | None:
        """Return what the caches go with; read anew, as those of an owner that is gone go at once.

        Raises:
            KubeError: there is none: the feature is being switched off.
        """
        if settings.owner is None:
            return None
        namespace = self._all.lease_namespace
        return await self._threads.run(owner_reference, self._client, namespace, settings.owner)

    async def _keys(self, settings: SiteCacheSettings) -> TicketSigner | None:
        """Return the keys; the Secret is made if there is none, and never read by us."""
        if found := _mounted(settings.keys_dir):
            return found
        fresh = make_keys()
        namespace = self._all.lease_namespace
        made = await self._threads.run(create_keys, self._client, namespace, settings.secret, fresh)
        if not made:
            log.info("the keys of the site caches are there, and will be mounted soon")
            return None
        log.info("made the keys of the site caches: Secret %s", settings.secret)
        return read_signer(fresh)


def _mounted(folder: Path) -> TicketSigner | None:
    names = ("ticket.key", "tls.crt")
    if not all((folder / name).is_file() for name in names):
        return None
    return read_signer({name: (folder / name).read_bytes() for name in names})


def _urls(sites: Iterable[str], written: Iterable[FoundObject]) -> dict[str, str]:
    """Return the addresses: not names, as a site that is cut off may have nobody to ask for one."""
    services = {one.name: one.address for one in written if one.address not in ("", "None")}
    return {
        site: f"https://{_host(services[cache_name(site)])}:{PORT}"
        for site in sites
        if cache_name(site) in services
    }


def _no_ticket(_: str, __: str) -> str:
    return ""


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
