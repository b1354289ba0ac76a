"""`skerry resolve` against a server that answers as a Hugging Face hub does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from skerry_operator.ctl.answer import Declined
from skerry_operator.ctl.cli import main
from skerry_operator.ctl.resolve import ResolveWish, resolve

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = "ab" * 32
SMALL = b"{}"
TOKEN = "hf_tests"  # noqa: S105 (of a server of this test's own)


@dataclass
class Hub:
    url: str = ""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)


Reply = tuple[int, dict[str, str], bytes]


def reply(path: str, shown: str | None) -> Reply:
    """Answer as a hub does."""
    _, org, repo, _, revision, *rest = path.split("/")
    name = "/".join(rest)
    moved = {"renamed": path.replace("renamed", "repo"), "circle": path}
    pinned = {"X-Repo-Commit": COMMIT}
    if repo in moved:
        found: Reply = (307, {"Location": moved[repo]}, b"")
    elif org == "gated" and shown != f"Bearer {TOKEN}":
        found = (401, {}, b"")
    elif name.endswith(".onnx") and revision in ("main", "v%2F1", COMMIT):
        elsewhere = {"Location": "https://cdn.example/x", "X-Linked-ETag": f'"{LARGE}"'}
        found = (302, {**pinned, **elsewhere}, b"")
    elif name == "config.json":
        found = (200, {**pinned, "ETag": '"0a1b"'}, SMALL)
    else:
        found = (200, {}, SMALL) if repo == "odd" else (404, {}, b"")
    return found


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self) -> None:
        shown = self.headers.get("Authorization")
        self.hub.asked.append((self.command, self.path, shown))
        code, headers, body = reply(self.path, shown)
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    found = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": found}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def found(hub: Hub, uri: str, token_file: str | None = None) -> Any:
    told = resolve(ResolveWish(uri, f"{hub.url}/", token_file), json=True)
    return json.loads(told.text)["source"]


@pytest.mark.parametrize("revision", ["", "@main", "@v/1", f"@{COMMIT}"])
def test_a_large_file_is_pinned_by_what_the_hub_says_and_not_downloaded(
    hub: Hub, revision: str
) -> None:
    source = found(hub, f"hf://org/repo/onnx/model.onnx{revision}")
    assert source == {"uri": f"hf://org/repo/onnx/model.onnx@{COMMIT}", "sha256": LARGE}
    assert [method for method, *_ in hub.asked] == ["HEAD"]


def test_a_small_file_is_hashed_as_it_is_at_the_commit(hub: Hub) -> None:
    source = found(hub, "hf://org/repo/config.json")
    assert source["sha256"] == sha256(SMALL).hexdigest()
    assert hub.asked[-1][:2] == ("GET", f"/org/repo/resolve/{COMMIT}/config.json")


def test_a_repository_that_was_renamed_is_found(hub: Hub) -> None:
    assert found(hub, "hf://org/renamed/model.onnx")["sha256"] == LARGE


def test_a_gated_repository_is_asked_with_the_token(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert found(hub, "hf://gated/repo/model.onnx", str(tmp_path / "token"))["sha256"] == LARGE


def test_what_is_printed_can_be_pasted(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resolve", "hf://org/repo/model.onnx", "--endpoint", hub.url]) == 0
    told = capsys.readouterr().out
    assert told == f"source:\n  uri: hf://org/repo/model.onnx@{COMMIT}\n  sha256: {LARGE}\n"


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("hf://org/repo", "write hf://ORG/REPO/FILE"),
        ("https://huggingface.co/org/repo", "write hf://ORG/REPO/FILE"),
        ("hf://org/repo/absent.bin", "HTTP 404: is the name right"),
        ("hf://gated/repo/model.onnx", "HTTP 401: a gated or private repository needs --token"),
        ("hf://org/odd/x.bin", "names no commit: is it a Hugging Face hub"),
        ("hf://org/circle/x.bin", "more than 5 redirects"),
    ],
)
def test_what_cannot_be_pinned_is_declined_with_the_remedy(hub: Hub, uri: str, says: str) -> None:
    with pytest.raises(Declined, match=says):
        found(hub, uri)


def test_a_hub_that_is_not_there_is_declined() -> None:
    with pytest.raises(Declined, match="does --endpoint name the hub, and is it up"):
        resolve(ResolveWish("hf://org/repo/x", "http://127.0.0.1:1"), json=False)
    with pytest.raises(Declined, match="correct --endpoint"):
        resolve(ResolveWish("hf://org/repo/x", "file:///etc"), json=False)
