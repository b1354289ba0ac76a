"""A job of an EdgeModel, from its order to its last words."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from optimize_models import cnn, data_of, golden_of
from skerry_optimize import ordered
from skerry_optimize.cli import main
from skerry_optimize.ordered import TRIES, carry_out
from skerry_optimize.verdicts import last_words, read_note
from skerry_runtime.agent.npz import Arrays
from skerry_runtime.agent.refusal import Refused, Transient
from skerry_runtime.contract import (
    BUILD_TRANSIENT,
    MAX_VERDICT_BYTES,
    BuildPhase,
    BuildVerdict,
    FailureReason,
    Format,
    StoredBuild,
)
from unit.optimize.ordering import KEY, Files, MemoryStore, Told, order, served, workplace

GUARDS = {"maxAccuracyDrop": "0.05"}


def archive(arrays: Arrays) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


@pytest.fixture(scope="module")
def files() -> Iterator[Files]:
    content = {
        "model": cnn(),
        "data": archive(data_of("cnn")),
        "golden": archive(golden_of("cnn")),
    }
    with served(**content) as found:
        yield found


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    found = MemoryStore()
    monkeypatch.setattr(ordered, "store_of", lambda *_: found)
    return found


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_build_that_is_good_enough_is_kept_and_noted(
    files: Files, store: MemoryStore, told: Told, tmp_path: Path
) -> None:
    verdict = carry_out(order(files, guards=GUARDS), workplace(tmp_path, told))
    assert verdict.phase is BuildPhase.SUCCEEDED, verdict
    assert verdict.build is not None
    assert verdict.worth is not None
    assert verdict.build.format is Format.ONNX
    assert verdict.build.uri in store.files
    assert verdict.worth.size_bytes == len(store.files[verdict.build.uri])
    assert verdict.worth.accuracy is not None
    assert not verdict.was_stored
    assert list(store.notes) == [KEY]
    assert told.names == ["fetched", "fetched", "fetched", "origin", "made", "kept", "noted"]


def test_what_was_done_before_is_not_done_again_nor_is_a_file_asked_for(
    files: Files, store: MemoryStore, told: Told, tmp_path: Path
) -> None:
    first = carry_out(order(files, guards=GUARDS), workplace(tmp_path, told))
    files.asked.clear()
    again = carry_out(order(files, guards=GUARDS), workplace(tmp_path, told))
    assert again == first.model_copy(update={"was_stored": True})
    assert files.asked == []
    assert store.kept == 1


def test_other_guards_judge_what_was_made_before(
    files: Files, store: MemoryStore, told: Told, tmp_path: Path
) -> None:
    carry_out(order(files, guards=GUARDS), workplace(tmp_path, told))
    strict = order(files, guards={"maxSizeRatio": "0.01"})
    verdict = carry_out(strict, workplace(tmp_path, told))
    assert verdict.phase is BuildPhase.REFUSED
    assert verdict.build is None
    assert "of its origin's bytes, maxSizeRatio is 0.01" in verdict.message
    assert carry_out(order(files), workplace(tmp_path, told)).phase is BuildPhase.SUCCEEDED
    assert store.kept == 1


def test_a_refused_build_keeps_its_figures_and_no_file(
    files: Files, store: MemoryStore, told: Told, tmp_path: Path
) -> None:
    steps = {"prune": {"mode": "Magnitude", "amount": "95%"}}
    wanted = order(files, steps, guards={"maxAccuracyDrop": "0.01"})
    verdict = carry_out(wanted, workplace(tmp_path, told))
    assert verdict.phase is BuildPhase.REFUSED
    assert "maxAccuracyDrop is 0.01" in verdict.message
    assert verdict.worth is not None
    assert verdict.build is None
    assert store.files == {}
    assert carry_out(wanted, workplace(tmp_path, told)).was_stored
    # wanted after all: its file was not kept, so it is made once more
    verdict = carry_out(order(files, steps), workplace(tmp_path, told))
    assert verdict.phase is BuildPhase.SUCCEEDED
    assert len(store.files) == 1


def test_a_build_that_somebody_took_out_of_the_store_is_made_again(
    files: Files, store: MemoryStore, told: Told, tmp_path: Path
) -> None:
    first = carry_out(order(files), workplace(tmp_path, told))
    store.files.clear()
    again = carry_out(order(files), workplace(tmp_path, told))
    assert not again.was_stored
    assert again.build == first.build  # the same bytes, by the same name
    assert store.kept == 2


def test_an_outage_of_a_moment_costs_no_build(
    files: Files, store: MemoryStore, told: Told, tmp_path: Path
) -> None:
    store.failures += [Transient("away")] * (TRIES - 1)
    verdict = carry_out(order(files), workplace(tmp_path, told))
    assert verdict.phase is BuildPhase.SUCCEEDED
    assert told.names.count("waiting") == TRIES - 1


def test_an_outage_without_end_is_a_case_for_another_try(
    files: Files, store: MemoryStore, told: Told, tmp_path: Path
) -> None:
    store.failures += [Transient("the store is away")] * TRIES
    with pytest.raises(Transient, match="the store is away"):
        carry_out(order(files), workplace(tmp_path, told))
    assert store.notes == {}


def test_a_store_without_room_fails_the_job_with_its_name(
    files: Files, store: MemoryStore, told: Told, tmp_path: Path
) -> None:
    full = Refused(FailureReason.INSUFFICIENT_DISK, "PUT oci://r/m: HTTP 507: no room")
    work = workplace(tmp_path, told)
    carry_out(order(files, key="1" * 64), work)
    store.failures += [full]
    verdict = carry_out(order(files), work)
    assert verdict.phase is BuildPhase.FAILED
    assert verdict.message == "PUT oci://r/m: HTTP 507: no room"
    assert KEY not in store.notes


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"steps": ({"fly": {}},)}, "fly"),
        ({"steps": ({"quantize": {"mode": "Static"}},), "data": None}, "needs data"),
    ],
)
def test_an_order_that_cannot_be_carried_out_fails_with_the_reason(
    files: Files,
    store: MemoryStore,
    told: Told,
    tmp_path: Path,
    change: dict[str, object],
    says: str,
) -> None:
    wanted = order(files).model_copy(update=change)
    verdict = carry_out(wanted, workplace(tmp_path, told))
    assert verdict.phase is BuildPhase.FAILED
    assert says in verdict.message
    assert store.notes == {}


def test_a_file_with_another_digest_fails_the_job(
    files: Files, store: MemoryStore, told: Told, tmp_path: Path
) -> None:
    wrong = files.ordered("model").model_copy(update={"sha256": "0" * 64})
    verdict = carry_out(order(files, origin=wrong), workplace(tmp_path, told))
    assert verdict.phase is BuildPhase.FAILED
    assert "has another sha256 than 000" in verdict.message


def test_what_is_no_model_fails_the_job(store: MemoryStore, told: Told, tmp_path: Path) -> None:
    with served(model=b"no model") as found:
        wanted = order(found, {"quantize": {"mode": "Dynamic"}})
        verdict = carry_out(wanted, workplace(tmp_path, told))
    assert verdict.phase is BuildPhase.FAILED
    assert verdict.message


def test_a_full_disk_names_the_field_that_gives_more(
    files: Files,
    store: MemoryStore,
    told: Told,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ordered, "_made", full)
    verdict = carry_out(order(files), workplace(tmp_path, told))
    assert verdict.message == "the disk ran full: raise optimize.resources.diskLimit"


def test_the_verdict_fits_into_the_last_words_of_a_pod_whatever_it_says() -> None:
    long = BuildVerdict(
        key=KEY,
        phase=BuildPhase.SUCCEEDED,
        message="ä" * 5000,
        build=StoredBuild(uri="x" * 2048, sha256=KEY, format=Format.ONNX),
    )
    words = last_words(long)
    assert len(words.encode()) <= MAX_VERDICT_BYTES
    assert BuildVerdict.model_validate_json(words).build == long.build


@pytest.mark.parametrize(
    "note", [b"", b"{}", b"[]", b'{"verdict": {}}', b"\xff", b'{"verdict": {"key": 1}}']
)
def test_a_note_that_cannot_be_read_counts_as_none(files: Files, note: bytes) -> None:
    assert read_note(note, order(files)) is None


def test_the_command_writes_the_verdict_and_its_exit_status_tells_whether_there_is_one(
    files: Files,
    store: MemoryStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SKERRY_FETCH_ALLOW", "127.0.0.0/8")
    path, words = tmp_path / "order.json", tmp_path / "words"
    path.write_text(order(files).model_dump_json(by_alias=True))
    arguments = ["job", f"--order={path}", f"--work={tmp_path}/work", f"--verdict={words}"]
    assert main(arguments) == 0
    assert BuildVerdict.model_validate_json(words.read_text()).phase is BuildPhase.SUCCEEDED
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == {"event": "begun", "job": "int8", "key": KEY}
    monkeypatch.setattr(ordered, "TRIES", 1)
    store.failures.append(Transient("the store is away"))
    assert main(arguments) == BUILD_TRANSIENT
    assert words.read_text() == "the store is away"


def test_an_order_that_cannot_be_read_is_bad_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "order.json"
    path.write_text('{"job": "int8"}')
    assert main(["job", f"--order={path}", f"--verdict={tmp_path}/words"]) == 2
    assert "order.json: key" in capsys.readouterr().err
