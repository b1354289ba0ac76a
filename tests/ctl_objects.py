"""Objects as a cluster holds them in the middle of a rollout, for the tests of the command line."""

from __future__ import annotations

from typing import Any

from crd_objects import deployment

Object = dict[str, Any]
STABLE = "v1-aaaaaaaaaa"
TARGET = "v1-bbbbbbbbbb"
WHEN = "2026-11-23T12:00:00Z"


def condition(kind: str, status: str, reason: str = "Stable", message: str = "") -> Object:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": WHEN,
        "observedGeneration": 1,
    }


def failure(revision: str = TARGET, message: str = "node-c: Accuracy 0.2 < 0.93") -> Object:
    return {"revision": revision, "reason": "UnitFailed", "message": message, "at": WHEN}


def status(stage: str = "Idle", target: str = STABLE, **fields: Any) -> Object:
    """A status; without a target it is at rest."""
    rollout = {"stage": stage, "startedAt": WHEN, **fields.pop("rollout", {})}
    return {
        "observedGeneration": 1,
        "phase": "Stable" if stage == "Idle" else "Progressing",
        "stableRevision": STABLE,
        "targetRevision": target,
        "step": "1/4",
        "units": {"eligible": 3, "serving": 3, "updated": 1, "failed": 0, "offline": 0},
        "history": [{"revision": STABLE, "version": "1.0.0", "promotedAt": WHEN}],
        "rollout": rollout,
        "cells": [
            {
                "name": "digits-cpu-amd64",
                "profile": "cpu",
                "arch": "amd64",
                "variant": "fp32",
                "provider": "CPUExecutionProvider",
                "units": 3,
                "updated": 1,
            }
        ],
        "conditions": [condition("Ready", "True"), condition("Available", "True", "Serving")],
    } | fields


def waiting(**fields: Any) -> Object:
    """A rollout at a pause step."""
    message = "step 2/4 waits for promote"
    rollout = {"message": message, "pausedAt": WHEN, "reason": "Paused"}
    ready = condition("Ready", "False", "Paused", message)
    defaults = {"phase": "Paused", "step": "2/4", "rollout": rollout, "conditions": [ready]}
    return status("Paused", TARGET, **(defaults | fields))


def deployed(state: Object | None = None, **spec: Any) -> Object:
    return deployment(**spec) | {"status": state or status()}


def node(name: str = "node-a", arch: str = "amd64", **labels: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}},
        "status": {
            "nodeInfo": {"architecture": arch},
            "allocatable": {"cpu": "4", "memory": "4Gi"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
