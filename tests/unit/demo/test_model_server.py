"""The model server: whole files, ranges, refusals, stop and start at the same address."""

import urllib.error
import urllib.request

import pytest

from digits_demo.errors import DemoError
from digits_demo.model_server import ModelServer, Span, Unsatisfiable, parse_range

CONTENT = bytes(range(256)) * 4


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    (folder / "model.onnx").write_bytes(CONTENT)
    (folder.parent / "secret").write_bytes(b"outside")
    with ModelServer(folder, "127.0.0.1", folder / "server.log") as running:
        yield running


def get(server, path="/model.onnx", method="GET", **headers):
    request = urllib.request.Request(server.url + path, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return answer.status, dict(answer.headers), answer.read()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param(None, None, id="no header is the whole file"),
        pytest.param("bytes=0-", Span(0, 100), id="from the start"),
        pytest.param("bytes=40-", Span(40, 100), id="resume in the middle"),
        pytest.param("bytes=40-49", Span(40, 50), id="both ends, the last included"),
        pytest.param("bytes=40-999", Span(40, 100), id="an end behind the file is cut"),
        pytest.param("bytes=-10", Span(90, 100), id="the last ten bytes"),
        pytest.param("bytes=-999", Span(0, 100), id="more last bytes than there are"),
        pytest.param("bytes=50-40", None, id="a range that runs backwards is passed over"),
        pytest.param("bytes=-", None, id="a range without numbers is passed over"),
        pytest.param("bytes=0-1,5-6", None, id="several ranges are passed over"),
        pytest.param("lines=1-2", None, id="another unit is passed over"),
    ],
)
def test_range_header(header, expected):
    assert parse_range(header, 100) == expected


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=200-300", "bytes=-0"])
def test_range_outside_the_file_is_refused(header):
    with pytest.raises(Unsatisfiable):
        parse_range(header, 100)


def test_a_whole_file_comes_with_its_length(server):
    status, headers, body = get(server)
    assert (status, body) == (200, CONTENT)
    assert headers["Content-Length"] == str(len(CONTENT))
    assert headers["Accept-Ranges"] == "bytes"


def test_a_download_resumes(server):
    status, headers, body = get(server, Range="bytes=1000-")
    assert (status, body) == (206, CONTENT[1000:])
    assert headers["Content-Range"] == f"bytes 1000-{len(CONTENT) - 1}/{len(CONTENT)}"


def test_head_says_the_length_and_sends_nothing(server):
    status, headers, body = get(server, method="HEAD")
    assert (status, headers["Content-Length"], body) == (200, str(len(CONTENT)), b"")


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/other.onnx", {}, 404),
        ("/", {}, 404),
        ("/../secret", {}, 404),
        ("/%2e%2e/secret", {}, 404),
        ("/model.onnx", {"Range": "bytes=5000-"}, 416),
    ],
)
def test_refusals(server, path, headers, expected):
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(server, path, **headers)
    refused.value.close()
    assert refused.value.code == expected


def test_it_is_gone_after_stop_and_back_at_the_same_address_after_start(tmp_path):
    (tmp_path / "model.onnx").write_bytes(CONTENT)
    server = ModelServer(tmp_path, "127.0.0.1", tmp_path / "server.log")
    server.start()
    url = server.url
    server.stop()
    with pytest.raises(urllib.error.URLError):
        get(server)
    server.start()
    try:
        assert server.url == url
        assert get(server)[2] == CONTENT
    finally:
        server.stop()
    server.stop()  # stopping twice is fine


def test_an_address_of_another_machine_is_an_understandable_error(tmp_path):
    with pytest.raises(DemoError, match=r"no server can listen on 192\.0\.2\.1"):
        ModelServer(tmp_path, "192.0.2.1", tmp_path / "server.log")
