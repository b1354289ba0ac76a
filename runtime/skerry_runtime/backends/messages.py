"""Engines' messages, fit for people and for the outside: with their numbers, without our folders.

An engine says what it could not do at the beginning and why at the end, with its limits, so both
ends are kept. Names of a graph's nodes look like paths (`/encoder/layers.0/MatMul`) and stay; of
files of this machine only the last part of the name does.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from functools import cache
from pathlib import Path

MAX_MESSAGE_BYTES = 640
"""Longest engine message that is passed on: the contract's texts hold it with what stands around
it."""

_READ_CHARACTERS = 64 * 1024  # a model's names may be of any length
_GAP = " ... "
_HEAD_SHARE = 0.4  # the end has the numbers

_SYSTEM = "bin|boot|etc|home|lib|lib32|lib64|media|mnt|opt|proc|root|run|sbin|srv|sys|tmp|usr|var"
"""Folders at the root of every Linux system."""
_BEGIN, _PART = r"(?<![\w.\-])", r"/+[^\s/\"'`,:;()<>\[\]]+"
_VARIABLES = ("SKERRY_SLOTS_DIR", "SKERRY_ASSIGNMENT_DIR", "SKERRY_TOKEN_DIR", "SKERRY_TLS_DIR")

_NEWER = "or use a newer runtime image"

_REMEDIES = tuple(
    (re.compile(pattern), remedy)
    for pattern, remedy in (
        (
            r"Unsupported model IR version: \d+, max supported IR version: (\d+)",
            rf"save the model with ir_version \1 or lower, {_NEWER}",
        ),
        (
            r"Opset \d+ is under development.*support for domain (\S+) is till opset (\d+)",
            rf"export the model with opset \2 of \1 or lower, {_NEWER}",
        ),
        (
            r"(?:ai\.onnx\.contrib|com\.microsoft\.extensions):(\w{1,64})",
            r"\1 is an operator of onnxruntime-extensions, which this image has not: export the "
            r"model without its pre- and post-processing, and do that in the client",
        ),
        (
            r"([\w.]{1,64}:\w{1,64})\(-?\d+\) is not a registered function/op",
            r"the engine of this image has no \1: export the model with standard operators",
        ),
        (
            r"No Op registered for (\w{1,64}) with domain_version of (\d+)",
            r"opset \2 has no operator \1: export the model with standard operators of that opset, "
            r"or with another opset",
        ),
        (
            r"Could not find an implementation for (\w{1,64})\((\d+)\)",
            r"the provider has no \1 of opset \2 for these datatypes: export the model with a "
            r"newer opset or another precision",
        ),
        (
            r"[Ee]xternal data",
            "pack the tensors into the file: onnx.save(onnx.load('model.onnx'), 'packed.onnx')",
        ),
        (
            r"construct locale with name:([\w.@\-]{1,64}?):",
            r"the image lacks the locale \1 that the model needs: use Skerry's, or add it to yours",
        ),
        (
            r"[Ss]elect TensorFlow op",
            "convert the model with the built-in operators only "
            "(target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS])",
        ),
        (
            r"unresolved custom op: (\w{1,64})",
            r"this image has no operator \1: convert the model without custom operators",
        ),
        (
            r"Didn't find op for builtin opcode '(\w{1,64})' version '(\d+)'",
            rf"the engine of this image has no \1 of version \2: convert the model with an older "
            rf"converter, {_NEWER}",
        ),
    )
)
"""What a person can do about it; numbers and names are those of the message."""


def safe_text(error: Exception, file: Path | None = None) -> str:
    """Return an engine's message on one line, shortened in its middle, with a remedy if known.

    Args:
        error: what the engine raised.
        file: the file that it had to open; how it is called here is nobody's business.
    """
    text = _both_ends(" ".join(str(error).split()), _READ_CHARACTERS)
    text = _both_ends(without_folders(text, file), MAX_MESSAGE_BYTES)
    found = ((pattern.search(text), remedy) for pattern, remedy in _REMEDIES)
    remedy = next((match.expand(remedy) for match, remedy in found if match), "")
    return f"{text.rstrip('.')}; {remedy}" if remedy else text


def without_folders(text: str, file: Path | None = None) -> str:
    """Return a text in which no file of this machine has its folder."""
    if file is not None and len(file.parent.parts) > 1:
        text = text.replace(f"{file.parent}/", ".../").replace(str(file.parent), "...")
    return _ours().sub(lambda found: f".../{found[0].rpartition('/')[2]}", text)


@cache
def _ours() -> re.Pattern[str]:
    """Return what finds a path of this machine."""
    folders = [*sys.path, sys.prefix, tempfile.gettempdir(), os.environ.get("HOME", "")]
    folders += [os.environ.get(name, "") for name in _VARIABLES]
    known = {folder.rstrip("/") for folder in folders if folder.startswith("/")} - {""}
    ours = "|".join(re.escape(folder) for folder in sorted(known, key=len, reverse=True))
    system = rf"/+(?:{_SYSTEM})(?:{_PART})+"
    return re.compile(rf"{_BEGIN}(?:{system}|(?:{ours or '(?!)'})(?![\w.\-])(?:{_PART})*)")


def _both_ends(text: str, limit_bytes: int) -> str:
    """Return a text of at most so many bytes, with its beginning and its end."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit_bytes:
        return text
    room = limit_bytes - len(_GAP)
    head = round(_HEAD_SHARE * room)
    pieces = data[:head], data[len(data) - (room - head) :]
    return _GAP.join(piece.decode("utf-8", "ignore") for piece in pieces)
