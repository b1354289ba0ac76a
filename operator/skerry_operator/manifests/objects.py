"""All objects of a deployment: every cell's file and pods, and the Services."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from skerry_operator.api.base import ObjectMeta
from skerry_operator.api.trustpolicy import NO_POLICY, SigningPolicy
from skerry_operator.api.v1alpha1.edgedeployment import (
    Fallback,
    OnUncovered,
    Serving,
    TrafficPolicy,
)
from skerry_operator.api.v1alpha1.edgedeployment_pods import NO_EXTRAS, PodExtras
from skerry_operator.decide.analysis.shadow import shadow_of
from skerry_operator.decide.fleet.covering import kept_default
from skerry_operator.decide.fleet.fleet import Fleet, hostname_of
from skerry_operator.decide.fleet.podtemplate import PodTemplate
from skerry_operator.decide.fleet.renewal import must_renew
from skerry_operator.decide.fleet.row import Berth
from skerry_operator.decide.fleet.seating import Seat, can_run
from skerry_operator.decide.observed import ObservedCell
from skerry_operator.decide.planned import Manifest, ObjectRef
from skerry_operator.decide.rollout.engine import Transition
from skerry_operator.decide.rollout.line import download_rules, fetched_ahead, may_try_ahead
from skerry_operator.decide.rollout.look import is_immediate
from skerry_operator.manifests.assignment import (
    CellAssignment,
    as_cell,
    build_assignment,
    build_config_map,
)
from skerry_operator.manifests.daemonset import CellPods, build_daemonset
from skerry_operator.manifests.metadata import API_VERSIONS, ref, snapshot_name
from skerry_operator.manifests.networkpolicy import NetworkDefaults, build_network_policy
from skerry_operator.manifests.replicaset import Replica, build_replicaset
from skerry_operator.manifests.service import (
    RevisionService,
    build_revision_service,
    build_service,
)
from skerry_operator.manifests.siteaccess import cache_access, unit_sites
from skerry_runtime.contract import Assignment, CacheAccess, RevisionContent, Shadow


@dataclass(frozen=True)
class Scene:
    """The fleet with everybody seated: all that the objects are made from."""

    fleet: Fleet
    wanted: str
    """Revision that the spec asks for."""
    transition: Transition
    seats: tuple[Seat, ...]
    fetch: Mapping[str, str] = field(default_factory=dict)
    """What the operator's administrator tells pods about fetching."""
    extras: PodExtras = NO_EXTRAS
    """What the pods have besides."""
    trust: SigningPolicy = NO_POLICY
    """Whose word counts for models."""

    @property
    def owner(self) -> ObjectMeta:
        """Return the metadata of the deployment."""
        return self.fleet.observed.deployment.metadata

    @property
    def trial(self) -> str | None:
        """Return the target while it is not stable."""
        state = self.transition.state
        return state.target if state.target != state.stable else None


def next_cells(scene: Scene) -> dict[str, ObservedCell]:
    """Return every cell as it will be, by name."""
    units: dict[str, dict[str, str | None]] = defaultdict(dict)
    for seat in scene.seats:
        units[seat.berth.cell][seat.unit] = seat.given
    return {name: as_cell(_assignment(scene, name, given)) for name, given in sorted(units.items())}


def build_objects(
    scene: Scene, cells: Mapping[str, ObservedCell], network: NetworkDefaults
) -> tuple[Manifest, ...]:
    """Return all objects in the order of writing.

    Files come before the pods that mount them, and what guards pods before these are there.
    """
    access = scene.fleet.observed.deployment.spec.serving.network_policy
    policy = build_network_policy(scene.owner, access, network)
    return (
        *(build_config_map(scene.owner, cell.assignment) for cell in cells.values()),
        *((policy,) if policy else ()),
        *_services(scene),
        *(_daemonsets(scene) if scene.fleet.is_per_node else _replicasets(scene)),
    )


def only_changed(objects: Iterable[Manifest], generated: Mapping[str, str]) -> tuple[Manifest, ...]:
    """Return the objects whose digest in the cluster (`Kind/name` -> digest) is another one.

    Within a kind new ones come first: a node leaves the DaemonSet that has it when the one that
    takes it was accepted, and not before.
    """
    found = [item for item in objects if generated.get(_key(item.ref)) != item.digest]
    kinds = list(dict.fromkeys(item.ref.kind for item in found))
    return tuple(
        sorted(found, key=lambda item: (kinds.index(item.ref.kind), _key(item.ref) in generated))
    )


def superfluous(objects: Iterable[Manifest], generated: Mapping[str, str]) -> tuple[ObjectRef, ...]:
    """Return the generated objects that are not wanted any more; snapshots have their own rule."""
    wanted = {_key(item.ref) for item in objects}
    kinds = [key.partition("/") for key in sorted(generated) if key not in wanted]
    return tuple(
        ref(kind, name)
        for kind, _, name in kinds
        if kind in API_VERSIONS and kind != "ControllerRevision"
    )


def superfluous_snapshots(scene: Scene, cells: Mapping[str, ObservedCell]) -> tuple[ObjectRef, ...]:
    """Return the snapshots that nothing runs, and nothing can go back to."""
    observed, state = scene.fleet.observed, scene.transition.state
    kept = {scene.wanted, state.base, state.target, scene.transition.default}
    kept |= {entry.revision for entry in state.history}
    for cell in (*observed.cells, *cells.values()):
        kept |= set(cell.assignment.revisions)
    return tuple(
        ref("ControllerRevision", snapshot_name(scene.owner.name, revision))
        for revision in sorted(observed.snapshots)
        if revision not in kept
    )


def _key(target: ObjectRef) -> str:
    return f"{target.kind}/{target.name}"


def _assignment(scene: Scene, name: str, units: Mapping[str, str | None]) -> Assignment:
    spec = scene.fleet.observed.deployment.spec
    cell = CellAssignment(
        hardware=scene.fleet.hardware[name],
        default=_default(scene, name, units),
        units=units,
        keep=scene.transition.state.base,
        retries=dict.fromkeys(_current(scene), spec.rollout.retry),
        shadows=_shadows(scene),
        prepare=_prepare(scene, name),
        may_try_prepared=may_try_ahead(spec.rollout, scene.transition.state),
        download=download_rules(spec.rollout, scene.transition.state, scene.fleet.observed.now),
        cache=partial(_cache, scene, name, units),
        may_fall_back=spec.placement.fallback is Fallback.ALLOW,
        trust=scene.trust.in_namespace(scene.owner.namespace),
        earlier=scene.fleet.known_contents(name),
    )
    return build_assignment(scene.owner, cell, scene.fleet.snapshots)


def _cache(
    scene: Scene, cell: str, units: Mapping[str, str | None], contents: Iterable[RevisionContent]
) -> CacheAccess | None:
    """Return how a cell's pods reach the caches; while nobody knows, what they were told."""
    observed = scene.fleet.observed
    caches, namespace = observed.caches, scene.owner.namespace
    if caches is None:
        return next((one.assignment.cache for one in observed.cells if one.name == cell), None)
    return cache_access(caches, namespace, unit_sites(observed, caches.label, units), contents)


def _prepare(scene: Scene, cell: str) -> str | None:
    """Return what the units of a cell fetch ahead: only pods that can run it have a use for it."""
    spec, state = scene.fleet.observed.deployment.spec, scene.transition.state
    revision = fetched_ahead(spec.rollout, state)
    if revision is None or revision not in scene.fleet.snapshots:
        return None
    berths = {one.berth for one in scene.seats if one.berth.cell == cell and one.given != revision}
    can_use = any(scene.fleet.suits(berth, revision) for berth in berths)
    return revision if can_use else None


def _current(scene: Scene) -> list[str]:
    """Return what units may be given: stable, and what is on trial."""
    return [one for one in (scene.transition.state.base, scene.trial) if one is not None]


def _default(scene: Scene, cell: str, units: Mapping[str, str | None]) -> str | None:
    """Return what units of a cell have without an entry.

    Where the deployment's default has no build for the cell, that is what its units keep.
    """
    fleet, default = scene.fleet, scene.transition.default
    if scene.transition.state.stable is None or can_run(fleet, default, cell):
        return default
    keeps = fleet.observed.deployment.spec.rollout.on_uncovered is not OnUncovered.ALLOW
    return kept_default(fleet, cell, units, scene.trial) if keeps else default


def _shadows(scene: Scene) -> dict[str, Shadow]:
    """Return how what is tried is compared with stable.

    Not on a first deployment, which has none, and not on the way back to what was stable before,
    which nothing may hold up.
    """
    state = scene.transition.state
    wanted = shadow_of(scene.fleet.observed.deployment.spec.rollout)
    if scene.trial is None or wanted is None or state.stable is None or is_immediate(state):
        return {}
    return {scene.trial: wanted}


def _daemonsets(scene: Scene) -> list[Manifest]:
    members: dict[Berth, list[Seat]] = defaultdict(list)
    for seat in _occupied(scene):
        members[seat.berth].append(seat)
    return [_daemonset(scene, berth, seats) for berth, seats in sorted(members.items())]


def _daemonset(scene: Scene, berth: Berth, seats: list[Seat]) -> Manifest:
    pods = CellPods(
        berth=berth,
        template=_template(scene, berth, seats),
        hardware=scene.fleet.hardware[berth.cell],
        hostnames=tuple(hostname_of(scene.fleet.nodes[seat.unit]) for seat in seats),
        tolerations=scene.fleet.observed.deployment.spec.placement.tolerations,
        fetch=scene.fetch,
        extras=scene.extras,
    )
    return build_daemonset(scene.owner, pods)


def _replicasets(scene: Scene) -> list[Manifest]:
    return [
        build_replicaset(
            scene.owner,
            Replica(
                unit=seat.unit,
                berth=seat.berth,
                template=_template(scene, seat.berth, [seat]),
                hardware=scene.fleet.hardware[seat.berth.cell],
                placement=scene.fleet.observed.deployment.spec.placement,
                fetch=scene.fetch,
                extras=scene.extras,
            ),
        )
        for seat in _occupied(scene)
    ]


def _occupied(scene: Scene) -> list[Seat]:
    """Return the seats whose pods are to be there: a pod that is made anew has to go first."""
    return [seat for seat in scene.seats if not must_renew(scene.fleet, seat.unit, scene.extras)]


def _template(scene: Scene, berth: Berth, seats: list[Seat]) -> PodTemplate:
    """Return the template that the berth is named after, or one that its units can do with.

    A hash that no snapshot has stems from another catalogue or operator version. Its pods wait
    for their turn to move and, under OnDelete, are not touched by what is written here.
    """
    hardware = scene.fleet.hardware[berth.cell]
    state = scene.transition.state
    for template in scene.fleet.named_after(berth):
        return template
    snapshots = scene.fleet.snapshots
    likely = (*(seat.given for seat in seats), state.base, state.target, *snapshots)
    known = next(revision for revision in likely if revision is not None and revision in snapshots)
    return scene.fleet.template(known, hardware)


def _services(scene: Scene) -> list[Manifest]:
    """Return the Services; the one for clients keeps stable's ports until a promotion."""
    state, snapshots = scene.transition.state, scene.fleet.snapshots
    roles = {"stable": state.stable, "canary": scene.trial if scene.transition.active else None}
    found = [
        RevisionService(role, revision, snapshots[revision].serving)
        for role, revision in roles.items()
        if revision in snapshots and revision is not None
    ]
    return [
        build_service(scene.owner, _client_serving(scene), _usual_policy(scene)),
        *(build_revision_service(scene.owner, service) for service in found),
    ]


def _usual_policy(scene: Scene) -> TrafficPolicy:
    """Return where clients go: to their own node's pod, where every node has one."""
    return TrafficPolicy.LOCAL if scene.fleet.is_per_node else TrafficPolicy.CLUSTER


def _client_serving(scene: Scene) -> Serving:
    """Return stable's ports, and what the spec says now of the Service itself."""
    wanted = scene.fleet.observed.deployment.spec.serving
    stable = scene.fleet.snapshots.get(scene.transition.state.base or "")
    return stable.serving.model_copy(update={"service": wanted.service}) if stable else wanted
