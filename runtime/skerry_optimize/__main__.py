"""`python -m skerry_optimize`."""

import sys

from skerry_optimize.cli import main

sys.exit(main())
