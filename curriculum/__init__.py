"""Samples to stages: mixture, packing, balance, stage manifests; and the recipes of the whole road."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curriculum.planner import PlanResult, plan

__all__ = ["PlanResult", "plan"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from curriculum import planner

        return getattr(planner, name)
    raise AttributeError(f"module 'curriculum' has no attribute {name!r}")
