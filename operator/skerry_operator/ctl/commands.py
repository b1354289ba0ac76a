"""The commands on one EdgeDeployment of a cluster: read, decide, say or patch."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from skerry_operator.api.v1alpha1.edgedeployment import EdgeDeployment
from skerry_operator.ctl import steer
from skerry_operator.ctl.answer import Answer, Declined
from skerry_operator.ctl.cluster import Cluster
from skerry_operator.ctl.follow import Following, follow
from skerry_operator.ctl.status_view import (
    history_json,
    history_text,
    status_json,
    status_text,
)
from skerry_operator.ctl.table import as_json
from skerry_operator.ctl.timeline import timeline_json, timeline_text
from skerry_operator.kube.read import BadResource, deployment_entry, read_deployment

Say = Callable[[str], None]


def status(cluster: Cluster, name: str, *, json: bool) -> Answer:
    """Tell how a deployment is."""
    story = cluster.story(name)
    return Answer(as_json(status_json(story)) if json else status_text(story))


def watch(cluster: Cluster, name: str, say: Say, watching: Following) -> Answer:
    """Tell how a deployment is, then every change until its rollout ends."""
    say(status_text(cluster.story(name)) + "\n")
    return follow(lambda: cluster.story(name), say, watching)


def events(cluster: Cluster, name: str, *, json: bool) -> Answer:
    """Tell what happened to a deployment, its model, what makes its pods, and these, in order."""
    found = cluster.timeline(name)
    return Answer(as_json(timeline_json(found)) if json else timeline_text(name, found))


def history(cluster: Cluster, name: str, *, json: bool) -> Answer:
    """Tell what was stable and what failed."""
    story = cluster.story(name)
    return Answer(as_json(history_json(story)) if json else history_text(story))


def promote(cluster: Cluster, name: str, revision: str | None) -> Answer:
    """Let a rollout that waits for a person go on."""
    return _changed(cluster, name, lambda found: steer.promote(found, revision))


def abort(cluster: Cluster, name: str, revision: str | None) -> Answer:
    """End a rollout."""
    return _changed(cluster, name, lambda found: steer.abort(found, revision))


def retry(
    cluster: Cluster, name: str, text: str | None, now: datetime, *, clear_abort: bool = False
) -> Answer:
    """Give failed revisions another chance."""
    fresh = text if text is not None else now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return _changed(cluster, name, lambda found: steer.retry(found, fresh, clear_abort=clear_abort))


def upgrade(cluster: Cluster, name: str) -> Answer:
    """Roll the operator's runtime images out."""
    return _changed(cluster, name, steer.upgrade)


def set_paused(cluster: Cluster, name: str, *, paused: bool) -> Answer:
    """Freeze rollouts, or let them move again."""
    return _changed(cluster, name, lambda found: steer.set_paused(found, paused=paused))


def _changed(
    cluster: Cluster, name: str, decide: Callable[[EdgeDeployment], steer.Steering]
) -> Answer:
    raw = cluster.deployment(name)
    try:
        found = read_deployment(deployment_entry(raw)).deployment
    except BadResource as error:
        raise Declined(f"{cluster.namespace}/{name}: {error}: is this CLI too old?") from error
    change = decide(found)
    if change.patch:
        cluster.patch(name, change.patch)
    return Answer(change.text)
