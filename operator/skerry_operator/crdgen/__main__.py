"""`python -m skerry_operator.crdgen`."""

import sys

from skerry_operator.crdgen.cli import main

sys.exit(main())
