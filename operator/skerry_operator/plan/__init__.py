"""The plans, one for each kind: observed -> everything that a reconcile will do. Pure."""

from __future__ import annotations

from skerry_operator.plan.deployment import plan
from skerry_operator.plan.model import plan_model
from skerry_operator.plan.settings import PlanSettings

__all__ = ["PlanSettings", "plan", "plan_model"]
