"""Command line: `skerry-runtime serve`, `skerry-runtime cache`, `skerry-runtime --version`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError
from typing_extensions import override

from skerry_runtime import __version__
from skerry_runtime.settings import ENV_PREFIX, RuntimeSettings, settings_from

GRPC_ENVIRONMENT = {
    "GRPC_VERBOSITY": "ERROR",  # its own log is not JSON
    "GRPC_ENABLE_FORK_SUPPORT": "0",  # children only ever exec
    # The older listener polls its sockets where calls are handed over: one change of threads less.
    "GRPC_EXPERIMENTS": "-event_engine_listener",
}

CACHE_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",  # a few threads need no heaps of their own
    "MALLOC_MMAP_THRESHOLD_": "65536",  # buffers of connections go back when these end
    "MALLOC_TRIM_THRESHOLD_": "131072",
}

BAD_USAGE = 2  # argparse's own exit status for it

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status."""
    parser = build_parser()
    given = vars(parser.parse_args(arguments))
    if not given:
        _become_cache()
    model_file: Path | None = given.pop("model")
    try:
        settings = settings_from(os.environ, given)
    except ValidationError as error:
        parser.exit(BAD_USAGE, f"{parser.prog}: {_first_mistake(error)}\n")
    configure_log(settings.log_level)
    return _serve(settings, model_file)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; every setting is a flag of `serve`."""
    parser = argparse.ArgumentParser(prog="skerry-runtime", description=__doc__)
    parser.add_argument("--version", action="version", version=f"skerry-runtime {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="serve the model that the assignment names")
    serve.add_argument(
        "--model", type=Path, metavar="FILE", help="serve this file, with no assignment"
    )
    serve.add_argument("--name", dest="model_name", metavar="NAME", help="same as --model-name")
    for field, info in RuntimeSettings.model_fields.items():
        flag = "--" + field.replace("_", "-")
        text = " ".join((info.description or "").split()).replace("%", "%%")
        serve.add_argument(
            flag, dest=field, metavar="VALUE", help=f"{text} [{ENV_PREFIX}{field.upper()}]"
        )
    commands.add_parser("cache", help="keep a site's models; set by SKERRY_CACHE_... alone")
    return parser


def _become_cache() -> NoReturn:
    """Begin anew as the site cache, without what has been imported for a runtime."""
    for name, value in CACHE_ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # read when the C library starts
    os.execv(sys.executable, [sys.executable, "-P", "-m", "skerry_runtime.cache"])  # noqa: S606 (ourselves)


def configure_log(level: str) -> None:
    """Write one JSON object per line to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(StructuredFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class StructuredFormatter(logging.Formatter):
    """One record as one line of JSON."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        """Return the line; the trace of an error is one of its fields."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            entry["trace"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message"}


def _serve(settings: RuntimeSettings, model_file: Path | None) -> int:
    for name, value in GRPC_ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # read when grpc is imported
    import uvloop  # noqa: PLC0415 --version and --help answer without the servers' libraries

    from skerry_runtime.access import BadSecret  # noqa: PLC0415 same
    from skerry_runtime.server import serve  # noqa: PLC0415 same

    if model_file is not None and not model_file.is_file():
        _log.error("no such model file: %s", model_file)
        return BAD_USAGE
    try:
        return uvloop.run(serve(settings, model_file))
    except ValidationError as error:  # of what the agent alone reads from the environment
        _log.error("cannot start: %s", _first_mistake(error))
        return BAD_USAGE
    except BadSecret as error:
        _log.error("cannot start: %s", error)
        return 1
    except OSError as error:
        _log.error("cannot listen: %s", error)
        return 1


def _first_mistake(error: ValidationError) -> str:
    mistake = error.errors()[0]
    return f"{'.'.join(str(part) for part in mistake['loc'])}: {mistake['msg']}"
