"""The demo is an example, not a part of the distribution: its folder is put on the path here."""

import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[3] / "examples/digits"
sys.path.insert(0, str(EXAMPLE))
