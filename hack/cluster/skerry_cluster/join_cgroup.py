"""Move this process into a cgroup, then become another program.

Usage: join_cgroup.py CGROUP_PROCS_FILE PROGRAM [ARGUMENT ...]
"""

import os
import sys


def main() -> None:
    """Join first, so that not even a first child can escape the cgroup."""
    with open(sys.argv[1], "w") as procs:  # noqa: PTH123 - pathlib costs 10 ms per daemon
        procs.write(str(os.getpid()))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - replaces itself by what it was given


main()
