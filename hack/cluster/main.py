"""Development cluster for Skerry: real Kubernetes on one machine, without a container daemon."""

from skerry_cluster.commands import main

if __name__ == "__main__":
    raise SystemExit(main())
