"""The slots on disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from skerry_runtime.agent.files import NotPlain, open_plain, write_atomic
from skerry_runtime.agent.goal import Goal
from skerry_runtime.agent.onnxfile import NotOnnx, check_outline, external_locations
from skerry_runtime.agent.refusal import Corrupt, Refused
from skerry_runtime.agent.slots import Slots
from skerry_runtime.agent.state import NodeState, SlotManifest
from skerry_runtime.agent.verify import Verifier, check_format
from skerry_runtime.contract import FailureReason, Format
from unit.runtime.agent.support import classifier, external_model, goal, golden, sha256


@pytest.fixture
def slots(tmp_path: Path) -> Slots:
    found = Slots(tmp_path)
    found.open()
    return found


def put(slots: Slots, one: Goal) -> None:
    for blob in one.blobs:
        path = slots.path(blob)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"bytes")
    slots.record(SlotManifest.of(one))


def test_everything_is_read_back_by_the_next_process(slots: Slots, tmp_path: Path) -> None:
    one, state = goal("v1:abc"), NodeState().with_served(goal("v1:abc")).with_settled()
    put(slots, one)
    slots.save(state)
    again = Slots(tmp_path)
    assert again.open() == state
    assert again.revisions() == ("v1:abc",)
    manifest = again.manifest("v1:abc")
    assert manifest
    assert manifest.goal == one
    assert manifest.goal.key == one.key


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff\x00", b'{"history": 7}'])
def test_a_damaged_memory_counts_as_absent(slots: Slots, tmp_path: Path, damage: bytes) -> None:
    put(slots, goal("v1"))
    (tmp_path / "state.json").write_bytes(damage)
    (tmp_path / "revisions" / "v1.json").write_bytes(damage)
    again = Slots(tmp_path)
    assert again.open() == NodeState()
    assert again.revisions() == ()


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", "a/b", "."])
def test_a_revisions_name_never_leaves_the_folder(slots: Slots, tmp_path: Path, name: str) -> None:
    put(slots, goal(name, b"model"))
    assert len(list((tmp_path / "revisions").iterdir())) == 1
    assert Slots(tmp_path).open() == NodeState()


def test_prune_keeps_what_is_asked_for_and_nothing_else(slots: Slots, tmp_path: Path) -> None:
    v1, v2, twin = goal("v1"), goal("v2"), goal("v3", b"v1")
    for one in (v1, v2, twin):
        put(slots, one)
    slots.part(v1.model_blob).write_bytes(b"begun")
    slots.part(v2.model_blob).write_bytes(b"begun")
    (tmp_path / "blobs" / "rubbish").mkdir()
    slots.prune([twin])
    assert slots.revisions() == ("v3",)
    assert [p.name for p in (tmp_path / "blobs").iterdir()] == [v1.sha256]  # shared with v3
    assert [p.name for p in (tmp_path / "parts").iterdir()] == [v1.sha256]


def begin(slots: Slots, one: Goal, age_s: float = 0.0) -> None:
    """Leave a begun download of a revision that grew last so long ago."""
    part = slots.part(one.model_blob)
    part.write_bytes(b"begun")
    part.with_name(f"{part.name}.json").write_bytes(b"{}")
    grown = part.stat().st_mtime - age_s
    os.utime(part, (grown, grown))


def parts(root: Path) -> set[str]:
    return {path.name for path in (root / "parts").iterdir() if path.suffix != ".json"}


def test_the_begun_download_of_a_revision_that_was_taken_back_stays(
    slots: Slots, tmp_path: Path
) -> None:
    v1, v2, v3 = goal("v1"), goal("v2"), goal("v3")
    put(slots, v1)
    begin(slots, v2, age_s=5)
    begin(slots, v3)
    slots.prune([v1])
    assert parts(tmp_path) == {v3.sha256}  # one, of the revision that was given last
    assert (tmp_path / "parts" / f"{v3.sha256}.json").exists()
    slots.prune([v1])
    assert parts(tmp_path) == {v3.sha256}


def test_it_goes_after_a_day(slots: Slots, tmp_path: Path) -> None:
    v1, v2 = goal("v1"), goal("v2")
    put(slots, v1)
    begin(slots, v2, age_s=24 * 3600 + 1)
    slots.prune([v1])
    assert list((tmp_path / "parts").iterdir()) == []


def test_it_is_the_first_to_go_when_another_revision_is_fetched(
    slots: Slots, tmp_path: Path
) -> None:
    v1, v2, v3 = goal("v1"), goal("v2"), goal("v3")
    put(slots, v1)
    begin(slots, v2)
    slots.prune([v1, v3])  # v3 is to be fetched
    assert parts(tmp_path) == set()


def test_that_of_a_revision_that_is_given_again_is_gone_on_with(
    slots: Slots, tmp_path: Path
) -> None:
    v1, v2 = goal("v1"), goal("v2")
    put(slots, v1)
    begin(slots, v2, age_s=24 * 3600 + 1)
    slots.prune([v1, v2])
    assert parts(tmp_path) == {v2.sha256}


def test_the_volumes_limit_counts(slots: Slots) -> None:
    put(slots, goal("v1"))
    used = slots.used_bytes()
    assert slots.free_bytes(used + 7) == 7
    assert slots.free_bytes() > 7


def test_links_are_not_opened(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(b"x")
    (tmp_path / "soft").symlink_to(plain)
    with pytest.raises(NotPlain), open_plain(tmp_path / "soft"):
        pass
    with pytest.raises(NotPlain), open_plain(tmp_path):
        pass
    with open_plain(plain) as file:
        assert file.read() == b"x"
    (tmp_path / "hard").hardlink_to(plain)
    with pytest.raises(NotPlain, match="2 names"), open_plain(plain):
        pass


def test_a_pipe_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotPlain), open_plain(tmp_path / "pipe"):
        pass


def test_a_write_leaves_nothing_beside_it(tmp_path: Path) -> None:
    write_atomic(tmp_path / "file", b"one")
    write_atomic(tmp_path / "file", b"two")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("file", b"two")]


@pytest.mark.parametrize("kind", ["pipe", "link", "hardlink", "folder"])
def test_a_write_is_stopped_by_nothing_in_its_way(tmp_path: Path, kind: str) -> None:
    other, beside = tmp_path / "other", tmp_path / ".file.tmp"
    other.write_bytes(b"not ours")
    match kind:
        case "pipe":
            os.mkfifo(beside)
        case "link":
            beside.symlink_to(other)
        case "hardlink":
            beside.hardlink_to(other)
        case _:
            beside.mkdir()
    write_atomic(tmp_path / "file", b"one")
    assert (tmp_path / "file").read_bytes() == b"one"
    assert other.read_bytes() == b"not ours"


def test_a_damaged_file_behind_a_link_is_discarded_with_the_link_alone(
    slots: Slots, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "model.onnx").write_bytes(b"not ours")
    blob = goal("v1").model_blob
    slots.path(blob).parent.symlink_to(outside)
    slots.discard(blob)
    assert slots.missing(goal("v1"))
    assert (outside / "model.onnx").read_bytes() == b"not ours"


def test_a_manifest_that_a_full_disk_refused_is_known_and_written_later(
    slots: Slots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    one = SlotManifest.of(goal("v1"))
    with monkeypatch.context() as patched:
        patched.setattr("skerry_runtime.agent.slots.write_document", full)
        with pytest.raises(OSError, match="No space"):
            slots.record(one)
    assert slots.manifest("v1") == one
    slots.record(one)
    again = Slots(tmp_path)
    again.open()
    assert again.manifest("v1") == one


def test_digests_of_files_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    verifier = Verifier()
    for number in range(20):
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(b"model")
        verifier.trust(path, sha256(b"model"))
        path.unlink()
    assert len(verifier._known) <= 1


def test_a_file_that_changes_after_it_was_verified_is_hashed_again(tmp_path: Path) -> None:
    path, verifier = tmp_path / "model.onnx", Verifier()
    path.write_bytes(b"good")
    verifier.check_digest(path, sha256(b"good"))
    path.write_bytes(b"evil")
    with pytest.raises(Corrupt, match="on disk has digest"):
        verifier.check_digest(path, sha256(b"good"))


@pytest.mark.parametrize(
    ("claimed", "body"),
    [
        (Format.ONNX, b""),
        (Format.ONNX, b"<html>not here</html>"),
        (Format.ONNX, b"\x00\x00\x00\x00ORTM\x00\x00"),
        (Format.ORT, classifier()),
        (Format.ONNX, golden()),
        (Format.ONNX, b"\x08\x09"),
    ],
)
def test_a_file_of_another_format_is_refused(tmp_path: Path, claimed: Format, body: bytes) -> None:
    path = tmp_path / "model"
    path.write_bytes(body)
    with pytest.raises(Refused) as caught:
        check_format(path, claimed)
    assert caught.value.reason is FailureReason.INVALID_MODEL


def test_a_model_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(classifier())
    check_format(path, Format.ONNX)


def test_a_model_cut_off_anywhere_is_refused_or_has_lost_whole_parts_only() -> None:
    whole = classifier()
    refused = 0
    for length in range(len(whole)):
        try:
            check_outline(memoryview(whole[:length]))
        except NotOnnx:
            refused += 1
    assert refused >= len(whole) - 3  # between two outermost parts a cut cannot be seen


@pytest.mark.parametrize("location", ["weights.bin", "../../etc/passwd", "/etc/passwd"])
def test_external_data_is_seen(location: str) -> None:
    assert external_locations(memoryview(external_model(location))) == {location}
    assert not external_locations(memoryview(classifier()))
