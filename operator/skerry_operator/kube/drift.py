"""What an object holds, against what it ought to hold. Pure.

Server-side apply puts back what it names, and leaves what others wrote beside it. So both are
looked for: our fields that are gone or differ, and fields that nobody but a stranger, or the
server's own defaults, can have written. The digest annotation tells what was applied last, and
the server's book of field managers only who wrote: a change under our name, or the removal of a
field, is in neither. The object itself is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skerry_operator.api.quantity import quantity
from skerry_operator.kube.children import content_of

RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
"""What `kubectl rollout restart` writes into a pod template."""

_KEYS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
"""Lists that several writers share, and what tells their members apart. A list that is not here
belongs to one writer as a whole; `ports` is looked at by what its members have."""

_DEFAULTS: Mapping[str, tuple[Any, ...]] = {
    "creationTimestamp": (None,),
    "restartPolicy": ("Always",),
    "dnsPolicy": ("ClusterFirst",),
    "schedulerName": ("default-scheduler",),
    "terminationMessagePath": ("/dev/termination-log",),
    "terminationMessagePolicy": ("File",),
    "resources": ({},),
    "successThreshold": (1,),
    "scheme": ("HTTP",),
    "apiVersion": ("v1",),
    "defaultMode": (0o644,),
    "sessionAffinity": ("None",),
    "internalTrafficPolicy": ("Cluster",),
    "minReadySeconds": (0,),
    "protocol": ("TCP",),
}
"""Fields that the API server fills in, with what it writes there."""

_NAMED_ONE_BY_ONE = frozenset({"metadata", "annotations", "labels"})
"""Fields of which people are told what is in them that is not ours."""

_QUANTITIES = frozenset({"resources", "sizeLimit"})
"""Fields with amounts, which the API server writes in its own way: 1000m comes back as 1."""

_ALLOCATED = frozenset({"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"})
"""Fields of a Service that the API server chooses."""


@dataclass(frozen=True)
class Surplus:
    """A field, or a member of a list, that is not ours."""

    pointer: str
    """Its address in the object, as a JSON pointer."""
    path: str
    """The same for people, and equal wherever the member stands in its list."""


@dataclass(frozen=True)
class Drift:
    """How an object differs from what it ought to be."""

    changed: tuple[str, ...] = ()
    """Our fields that are gone or hold something else."""
    surplus: tuple[Surplus, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changed or self.surplus)


def drift(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> Drift:
    """Return how a live object differs from the manifest in what makes it what it is."""
    found = list(_dicts(content_of(wanted), content_of(live), _Place()))
    return Drift(
        tuple(one for one in found if isinstance(one, str)),
        tuple(one for one in found if isinstance(one, Surplus)),
    )


@dataclass(frozen=True)
class _Place:
    """Where in the object the comparison is."""

    pointer: str = ""
    path: str = ""

    def field(self, name: str) -> _Place:
        escaped = name.replace("~", "~0").replace("/", "~1")
        return _Place(f"{self.pointer}/{escaped}", f"{self.path}.{name}" if self.path else name)

    def member(self, index: int, label: str) -> _Place:
        return _Place(f"{self.pointer}/{index}", f"{self.path}[{label}]")

    def as_surplus(self) -> Surplus:
        return Surplus(self.pointer, self.path)


_Found = Iterator[str | Surplus]


def _dicts(wanted: Mapping[str, Any], live: Mapping[str, Any], place: _Place) -> _Found:
    for name, value in wanted.items():
        if name in live:
            yield from _values(name, value, live[name], place.field(name))
        elif not _is_nothing(value):
            yield place.field(name).path
    for name, value in live.items():
        if name in wanted or _is_server_s(name, value):
            continue
        if name in _NAMED_ONE_BY_ONE and isinstance(value, Mapping):
            yield from _dicts({}, value, place.field(name))
        else:
            yield place.field(name).as_surplus()


def _values(name: str, wanted: Any, live: Any, place: _Place) -> _Found:
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        yield from _dicts(wanted, live, place)
    elif _is_list(wanted) and _is_list(live):
        keys = _keys_of(name, wanted)
        yield from _shared(wanted, live, keys, place) if keys else _whole(wanted, live, place)
    elif not _is_equal(wanted, live, place):
        yield place.path


def _shared(
    wanted: Sequence[Any], live: Sequence[Any], keys: tuple[str, ...], place: _Place
) -> _Found:
    """Compare a list that others may add to, member by member."""
    ours = {_label(one, keys): one for one in wanted}
    theirs = {_label(one, keys): (index, one) for index, one in enumerate(live)}
    for label, value in ours.items():
        if label in theirs:
            index, other = theirs[label]
            yield from _dicts(value, other, place.member(index, label))
        else:
            yield f"{place.path}[{label}]"
    for index, one in enumerate(live):
        label = _label(one, keys)
        if label not in ours or theirs[label][0] != index:
            yield place.member(index, label).as_surplus()


def _whole(wanted: Sequence[Any], live: Sequence[Any], place: _Place) -> _Found:
    """Compare a list that is ours as a whole: an apply puts it back."""
    if len(wanted) != len(live):
        yield place.path
        return
    for index, (one, other) in enumerate(zip(wanted, live, strict=True)):
        for found in _values("", one, other, place.member(index, str(index))):
            yield found if isinstance(found, str) else found.path


def _keys_of(name: str, wanted: Sequence[Any]) -> tuple[str, ...]:
    if name != "ports":
        return _KEYS.get(name, ())
    is_container_s = all("containerPort" in one for one in wanted)
    return ("containerPort" if is_container_s else "port", "protocol")


def _label(member: Any, keys: tuple[str, ...]) -> str:
    if not isinstance(member, Mapping):
        return str(member)
    usual = {"protocol": "TCP"}
    return ",".join(str(member.get(key, usual.get(key, ""))) for key in keys)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_nothing(value: Any) -> bool:
    """Tell whether the server leaves a field with this value out."""
    return value is None or value in ("", [], {}, ())


def _is_server_s(name: str, value: Any) -> bool:
    return name in _ALLOCATED or _is_nothing(value) or value in _DEFAULTS.get(name, ())


def _is_equal(wanted: Any, live: Any, place: _Place) -> bool:
    if wanted == live or (_is_nothing(wanted) and _is_nothing(live)):
        return True
    if not _QUANTITIES & set(place.path.split(".")):
        return False
    try:
        return quantity(str(wanted)) == quantity(str(live))
    except ValueError:
        return False
