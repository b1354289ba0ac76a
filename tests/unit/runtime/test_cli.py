"""The command line and the process's log."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from serving import models
from skerry_runtime import __version__
from skerry_runtime.cli import GRPC_ENVIRONMENT, StructuredFormatter, main


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"skerry-runtime {__version__}\n"


@pytest.fixture
def _root_log() -> object:
    """Give the root logger its handlers back: `main` configures it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.mark.usefixtures("_root_log")
def test_a_model_file_that_is_not_there_ends_the_program(tmp_path: Path) -> None:
    assert main(["serve", "--model", str(tmp_path / "nope.onnx")]) == 2


@pytest.mark.usefixtures("_root_log")
@pytest.mark.parametrize("port", ["--http-port", "--grpc-port", "--admin-port"])
def test_a_port_that_is_taken_ends_the_program(
    tmp_path: Path, port: str, capsys: pytest.CaptureFixture[str]
) -> None:
    free = ["--http-port", "0", "--grpc-port", "0", "--admin-port", "0", "--host", "127.0.0.1"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        model = models.product(tmp_path / "m.onnx")
        flags = [*free, port, str(taken.getsockname()[1])]
        assert main(["serve", "--model", str(model), *flags]) == 1
    assert "cannot listen" in capsys.readouterr().err


def test_grpc_knows_all_that_it_is_told_through_the_environment() -> None:
    program = (
        "import grpc, concurrent.futures as c; s = grpc.server(c.ThreadPoolExecutor(1)); "
        "s.add_insecure_port('127.0.0.1:0'); s.start(); s.stop(0)"
    )
    command = [sys.executable, "-c", program]
    environment = {**os.environ, **GRPC_ENVIRONMENT}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_a_log_record_is_one_line_of_json_with_its_extras_and_its_trace() -> None:
    try:
        raise ValueError("broken\nline")
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, "f", 1, "text %s", ("x",), sys.exc_info())
    record.ports = {"http": 1}
    line = StructuredFormatter().format(record)
    entry = json.loads(line)
    assert "\n" not in line
    assert (entry["message"], entry["level"], entry["ports"]) == ("text x", "ERROR", {"http": 1})
    assert "ValueError" in entry["trace"]
