"""`skerry optimize status`: what people read of the builds of a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import pytest

from builders import make_model, make_variant
from skerry_operator.api.v1alpha1.edgemodel import EdgeModel
from skerry_operator.ctl.answer import Declined, Exit
from skerry_operator.ctl.builds import builds_status, watch_builds
from skerry_operator.ctl.cluster import Cluster
from skerry_operator.ctl.follow import Following
from skerry_operator.decide.builds.effective import effective_spec
from unit.operator.decide.test_builds import complete, look, optimized, recorded, refused, verdict


class Models:
    """A cluster in which one model changes from look to look."""

    namespace = "default"

    def __init__(self, *models: EdgeModel | None) -> None:
        self._models = list(models)

    def model(self, _: str) -> Any:
        found = self._models.pop(0) if len(self._models) > 1 else self._models[0]
        return None if found is None else found.model_dump(mode="json", by_alias=True)


def cluster(*models: EdgeModel | None) -> Cluster:
    return cast("Cluster", Models(*models))


def under_way() -> EdgeModel:
    model = optimized()
    return model.model_copy(update={"status": look(model).status})


def done(words: Callable[[EdgeModel], Any] = verdict, **job: Any) -> EdgeModel:
    model = optimized()
    if job:
        spec = {**model.spec.to_dict()["optimize"]["jobs"][0], **job}
        model = optimized(spec)
    return model.model_copy(update={"status": look(model, complete(model, words(model))).status})


def test_jobs_and_builds_are_told_with_their_figures() -> None:
    text = " ".join(builds_status(cluster(done()), "digits", json=False).text.split())
    assert "int8 Succeeded 4 0.300" in text
    assert "0.300 of the bytes, exam 0.9700, 0.0050 worse" in text
    assert "int8 int8 100 0.9700 0.0050 0.9000 of its origin's 1.0Mi" in text


def test_scripts_get_the_fields_of_the_api() -> None:
    found = json.loads(builds_status(cluster(done()), "digits", json=True).text)
    assert found["ready"]["status"] == "True"
    assert found["jobs"][0]["phase"] == "Succeeded"
    assert found["artifacts"][0]["origin"] == "Optimized"


@pytest.mark.parametrize(
    ("last", "code"),
    [
        (done(), Exit.OK),
        (done(refused), Exit.OK),
        (done(refused, onFailure="Block"), Exit.NOT_READY),
    ],
)
def test_a_watch_says_changes_once_and_ends_when_no_job_is_under_way(
    last: EdgeModel, code: Exit
) -> None:
    said: list[str] = []
    moving = under_way()
    watching = Following(lambda: 0.0, lambda _: None)
    answer = watch_builds(cluster(moving, moving, last), "digits", said.append, watching)
    assert answer.code is code
    assert [line.split(": ")[1] for line in said] == ["Pending", str(last.status.jobs[0].phase)]


def test_a_watch_ends_with_its_time() -> None:
    watching = Following(iter((0.0, 1.0, 9.0)).__next__, lambda _: None, 5.0)
    answer = watch_builds(cluster(under_way()), "digits", lambda _: None, watching)
    assert answer.code is Exit.TIMED_OUT


@pytest.mark.parametrize(
    ("model", "says"),
    [(None, "there is no EdgeModel default/digits"), (make_model(), "asks for no builds")],
)
def test_what_has_no_builds_is_declined(model: EdgeModel | None, says: str) -> None:
    with pytest.raises(Declined, match=says):
        builds_status(cluster(model), "digits", json=False)


def test_what_a_deployment_wants_is_told_with_the_builds_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = optimized()
    plan = look(model, complete(model, verdict(model)))
    found = Cluster(cast("Any", None), "default")
    raw = model.model_dump(mode="json", by_alias=True)
    monkeypatch.setattr(Cluster, "records", lambda *_: [])
    assert found.with_builds(raw) is None, "it is being made"
    meta = {"uid": "r", "resourceVersion": "1", "managedFields": []}
    bodies = [{**one.body, "metadata": {**one.body["metadata"], **meta}} for one in plan.records]
    monkeypatch.setattr(Cluster, "records", lambda *_: bodies)
    assert found.with_builds(raw) == effective_spec(model.spec, recorded(plan))
    plain = make_model("1.0.0", make_variant())
    assert found.with_builds(plain.model_dump(mode="json", by_alias=True)) == plain.spec
