"""One object, from the manifest to the cluster: applied, compared, and put back where others wrote.

Blocking, apart from the tables, which are the event loop's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from skerry_operator.constants import Reason
from skerry_operator.decide.planned import EventNote, Manifest
from skerry_operator.kube.apply import Applied, Current, Outcome, apply, cut
from skerry_operator.kube.cache import Entry
from skerry_operator.kube.children import Child
from skerry_operator.kube.client import KubeClient
from skerry_operator.kube.drift import RESTARTED_AT, Drift, Surplus, drift
from skerry_operator.kube.errors import Conflict, Invalid

NAMED = 5
"""Fields that an event names; it says how many more there are."""

LEARNED = 1_000
"""Fields of which is remembered that the API server, or a webhook in it, writes them itself."""


@dataclass(frozen=True)
class Mended:
    """One object after its write, and what was wrong with it."""

    applied: Applied
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def is_put_back(self) -> bool:
        """Tell whether somebody else had changed the object."""
        return bool(self.changed or self.removed)


@dataclass
class Mender:
    """Applies objects, and knows what the API server adds to them of its own accord."""

    client: KubeClient
    _learned: set[tuple[str, str]] = field(default_factory=set)
    """(kind, path) of fields that came back in the very answer to their removal."""

    def is_right(self, manifest: Manifest, entry: Entry[Child], owner_uid: str) -> bool:
        """Tell whether an object that was just seen is what it ought to be, to the field."""
        child = entry.value
        live = child.content.read()
        if live is None or child.digest != manifest.digest or child.owner_uid != owner_uid:
            return False
        return not self._drift(manifest, live)

    def put(self, namespace: str, manifest: Manifest, entry: Entry[Child] | None) -> Mended:
        """Apply an object and take out what others wrote into it. Blocking.

        Raises:
            Taken: the name is somebody else's.
            KubeError: it was not applied.
        """
        before = self._before(manifest, entry)
        applied = apply(self.client, namespace, manifest, _current(entry) if entry else None)
        after = self._drift(manifest, applied.raw)
        if not after.surplus:
            return Mended(applied, before.changed)
        return self._cut(namespace, manifest, applied, before.changed)

    def _before(self, manifest: Manifest, entry: Entry[Child] | None) -> Drift:
        """Return how the object was changed; nothing when it is we who want it otherwise."""
        if entry is None or entry.value.digest != manifest.digest:
            return Drift()
        live = entry.value.content.read()
        return self._drift(manifest, live) if live is not None else Drift()

    def _cut(
        self, namespace: str, manifest: Manifest, applied: Applied, changed: tuple[str, ...]
    ) -> Mended:
        surplus = self._drift(manifest, applied.raw).surplus
        try:
            raw = cut(self.client, namespace, manifest.ref, surplus, applied.raw)
        except (Conflict, Invalid):  # it changes under our hands: its next event brings us back
            return Mended(applied, changed)
        left = {one.path for one in self._drift(manifest, raw).surplus}
        self._learn(manifest.ref.kind, [one for one in surplus if one.path in left])
        removed = tuple(one.path for one in surplus if one.path not in left)
        outcome = Outcome.CONFIGURED if removed else applied.outcome
        return Mended(replace(applied, raw=raw, outcome=outcome), changed, removed)

    def _drift(self, manifest: Manifest, live: dict[str, object]) -> Drift:
        found = drift(manifest.body, live)
        kind = manifest.ref.kind
        surplus = tuple(one for one in found.surplus if (kind, one.path) not in self._learned)
        return replace(found, surplus=surplus)

    def _learn(self, kind: str, surplus: Sequence[Surplus]) -> None:
        if len(self._learned) < LEARNED:
            self._learned.update((kind, one.path) for one in surplus)


def notes_of(mended: Mended, hold_s: float) -> tuple[EventNote, ...]:
    """Return what people are told of an object that was put back."""
    if not mended.is_put_back:
        return ()
    what = f"{mended.applied.ref.kind} {mended.applied.ref.name}"
    restarts = [path for path in mended.removed if path.endswith(RESTARTED_AT)]
    others = [path for path in (*mended.changed, *mended.removed) if path not in restarts]
    notes = []
    if restarts:
        notes.append(EventNote(True, Reason.RESTART_IGNORED, RESTART_ADVICE.format(what=what)))
    if others:
        notes.append(EventNote(True, Reason.PUT_BACK, f"{what}: put back {_listed(others)}"))
    if hold_s > 0:
        notes.append(
            EventNote(
                True,
                Reason.LEFT_ALONE,
                f"{what} is changed again and again: it is put back at most every "
                f"{hold_s:.0f} s now; find who changes it (`kubectl get -o yaml "
                "--show-managed-fields`)",
            )
        )
    return tuple(notes)


RESTART_ADVICE = (
    "{what}: `kubectl rollout restart` restarts nothing here, as Skerry decides when a pod is "
    "replaced; delete the pods, one after the other (`kubectl delete pod`): each comes back with "
    "what it served"
)


def _listed(paths: Sequence[str]) -> str:
    named = ", ".join(path[:200] for path in paths[:NAMED])
    more = len(paths) - NAMED
    return f"{named} and {more} more" if more > 0 else named


def _current(entry: Entry[Child]) -> Current:
    """Return what the cache knows of an object that is to be written."""
    whose = f"{entry.owner.kind} {entry.owner.orphans.name}" if entry.owner else ""
    return Current(entry.version, whose, entry.value.owner_uid, entry.value.is_ours)
