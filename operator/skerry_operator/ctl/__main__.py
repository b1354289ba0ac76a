"""Runs `python -m skerry_operator.ctl`."""

import sys

from skerry_operator.ctl.cli import main

sys.exit(main())
