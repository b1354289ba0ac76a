"""Tells the story: four versions, one after the other, under traffic."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from digits_demo import manifests, report, timeline
from digits_demo.artifacts import Index, TrainedModel
from digits_demo.cluster import Access
from digits_demo.errors import DemoError
from digits_demo.kube import Kube, apply
from digits_demo.model_server import ModelServer
from digits_demo.report import Report, RolloutReport
from digits_demo.rollouts import Before, Ending, Outcome, ending
from digits_demo.scene import Story, compose
from digits_demo.timeline import Mark
from digits_demo.traffic import Traffic
from digits_demo.view import View
from digits_demo.waiting import wait_for
from digits_demo.watch import Watcher
from skerry_operator.constants import Reason

ROLLOUT_TIMEOUT_S = 150.0
CLOSING_REQUESTS = 100
"""Requests per node after the last rollout."""
CLOSING_TIMEOUT_S = 30.0
SERVING_PORT = 8080


@dataclass(frozen=True)
class Stage:
    """All that the story needs to be there."""

    access: Access
    kube: Kube
    artifacts: Path
    index: Index
    output: Path
    """Folder of the report, the picture and the logs."""


@dataclass
class Run:
    """One telling of the story, with what it found so far."""

    stage: Stage
    view: View
    server: ModelServer
    traffic: Traffic
    watcher: Watcher
    story: Story = field(default_factory=Story)
    rollouts: list[RolloutReport] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    trouble: str = ""
    """Why the story ended early."""

    def tell(self) -> None:
        """Deploy v1, then change to each other version; an ending that fails to come is noted."""
        begin, *changes = self.stage.index.models
        try:
            self._prepare(begin)
            for model in changes:
                self._change(model)
            self._await_answers()
        except DemoError as error:
            self.trouble = str(error)
            self.story.say(str(error), warning=True)
        self._show()

    def result(self) -> Report:
        """Judge what happened; traffic and watcher have stopped."""
        snapshot, memory = self.watcher.latest, self.watcher.memory()
        found = report.build(
            snapshot.nodes, memory, self.traffic.tally, self.rollouts, self.story.seconds
        )
        if self.trouble:
            missing = (*found.unmet, self.trouble)
            return found.model_copy(update={"unmet": missing, "met": False})
        return found

    def picture(self) -> timeline.Story:
        """Return what the timeline shows."""
        memory = self.watcher.memory()
        return timeline.Story(
            bands=tuple(memory.bands),
            marks=tuple(self.marks),
            samples=self.traffic.tally.all(),
            nodes={node.name: node.profile for node in self.watcher.latest.nodes},
            versions=tuple(model.version for model in self.stage.index.models),
            latency_limit_ms=manifests.latency_limit_ms(),
        )

    def _prepare(self, model: TrainedModel) -> None:
        """Deploy the first version; it is gated like any other, so traffic starts with it."""
        access = self.stage.access
        apply(access, manifests.namespace())
        self._change(model, then=lambda: apply(access, manifests.deployment()))

    def _change(self, model: TrainedModel, then: Callable[[], None] | None = None) -> None:
        """Apply a version and wait until its rollout has ended, whichever way."""
        text = (
            f"{model.key}: {model.version}, {model.story}, {model.accuracy:.1%} on held-out images"
        )
        self.story.open_chapter(text)
        before = Before.of(self.watcher.latest.deployment)
        begin = time.time()
        self.marks.append(Mark(begin, f"{model.version} applied"))
        apply(self.stage.access, manifests.render_model(self.stage.index, model, self.server.url))
        if then:
            then()
        end = self._await_ending(model, before)
        self._note(model, before, end, begin)

    def _await_ending(self, model: TrainedModel, before: Before) -> Ending:
        def look() -> Ending | None:
            self._tick()
            return ending(self.watcher.latest, model.version, before)

        return wait_for(
            look,
            f"the end of the rollout of {model.version}",
            timeout_s=ROLLOUT_TIMEOUT_S,
            remedy="`kubectl -n digits get ed,em -o wide` says what it waits for (with --keep)",
        )

    def _await_answers(self) -> None:
        """Wait until every node has answered some more, so that the end is seen to be well."""
        counts = self.traffic.tally.of
        goals = {node: counts(node).requests + CLOSING_REQUESTS for node in self.traffic.nodes}

        def look() -> bool | None:
            self._tick()
            is_done = all(counts(node).requests >= goal for node, goal in goals.items())
            return True if is_done else None

        wait_for(look, "answers after the last rollback", timeout_s=CLOSING_TIMEOUT_S)

    def _note(self, model: TrainedModel, before: Before, end: Ending, begin: float) -> None:
        memory = self.watcher.memory()
        stable = (before.stable, memory.versions.get(before.stable or ""))
        seconds = time.time() - begin
        found = report.rollout_report(end, model.version, stable, seconds, memory)
        self.rollouts.append(found)
        self.marks.append(_mark(model, end))
        self.story.say(f"{model.version} {end.outcome} after {seconds:.1f} s {end.message}".strip())

    def _tick(self) -> None:
        """Keep everything going: clients for pods that began to serve, the screen."""
        self.traffic.require_alive()
        for node in self.watcher.latest.nodes:
            if node.serves and node.pod.ip:
                self.traffic.add(node.name, f"{node.pod.ip}:{SERVING_PORT}")
        deployment = self.watcher.latest.deployment
        if deployment and deployment.status.rollout.reason == Reason.FIRST_DEPLOYMENT_FAILED:
            raise DemoError(f"the first version failed: {deployment.status.rollout.message}")
        self._show()

    def _show(self) -> None:
        snapshot, versions = self.watcher.latest, self.watcher.memory().versions
        self.story.note_events(snapshot.events, versions)
        self.view.show(compose(snapshot, self.traffic.tally, self.story, versions))


def _mark(model: TrainedModel, end: Ending) -> Mark:
    if end.outcome is Outcome.PROMOTED:
        return Mark(time.time(), f"{model.version} promoted", "#2a9d5c")
    at = end.decided_at or time.time()
    return Mark(at, f"{model.version} taken back: {end.reason}", "#c0392b")


def perform(stage: Stage, view: View) -> Run:
    """Tell the story with everything around it; whatever was started is stopped."""
    with ExitStack() as stack:
        log = stage.output / "logs"
        address = stage.access.host_address
        server = ModelServer(stage.artifacts, address, log / "model-server.log")
        stack.enter_context(server)
        watcher = Watcher(stage.kube)
        stack.callback(watcher.stop)
        watcher.start()
        clients = stage.artifacts / stage.index.clients.name
        traffic = Traffic(clients, manifests.MODEL, log / "traffic.log")
        stack.callback(traffic.stop)
        stack.callback(view.close)
        run = Run(stage, view, server, traffic, watcher)
        run.tell()
    return run
