"""`python -m skerry_runtime` is `skerry-runtime`."""

import sys

from skerry_runtime.cli import main

sys.exit(main())
