"""`python -m skerry_operator`."""

import sys

from skerry_operator.cli import main

sys.exit(main())
