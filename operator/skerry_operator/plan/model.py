"""The plan for an EdgeModel."""

from __future__ import annotations

from datetime import datetime

from skerry_operator.api.v1alpha1.edgemodel import EdgeModel
from skerry_operator.decide.planned import ModelPlan
from skerry_operator.decide.told.validate import assess_model


def plan_model(model: EdgeModel, now: datetime) -> ModelPlan:
    """Return what to do for an EdgeModel: say whether it can be used."""
    return assess_model(model, now)
