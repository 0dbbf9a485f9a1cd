"""The behaviour head's part in the stage train: what it learns from, where it is kept, what is said of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from endcap.config import Params
    from endcap.models.behaviour.head import BehaviourModel
    from endcap.training.behaviour.days import LearntBehaviour, ShownDays

logger = logging.getLogger(__name__)


def shown_days(root: Path, params: Params) -> ShownDays | None:
    """What the stage prepare left of exposures and events, and the parent's head; None where no head is wanted."""
    import pandas as pd

    from endcap.training.behaviour.days import ShownDays

    if not params.behaviour.enabled:
        return None
    prepared = root / "work" / "prepared"
    return ShownDays(
        exposures=pd.read_parquet(prepared / "exposures.parquet"),
        events=pd.read_parquet(prepared / "interactions.parquet"),
        attribution=timedelta(hours=params.monitoring.attribution_hours),
        min_rows=params.behaviour.min_rows,
        max_rows=params.behaviour.max_rows,
        seed=params.train.seed,
        known=_known(root / "data" / "parent" / "model"),
    )


def _known(parent: Path) -> BehaviourModel | None:
    """The parent's head; one that cannot be read any more (of another format) is as none."""
    from endcap.errors import RegistryError
    from endcap.models.behaviour.head import FILE, BehaviourModel

    if not (parent / FILE).exists():
        return None
    try:
        return BehaviourModel.load(parent)
    except RegistryError as error:
        logger.warning("parent_head_unreadable error=%s", error)
        return None


def facts(found: LearntBehaviour | None) -> dict[str, Any]:
    """What came of it, for the model's config."""
    return found.facts if found else {"absent": "off (params.yaml: behaviour.enabled)"}


def save(found: LearntBehaviour | None, model: Path) -> None:
    """Write the head, if there is one, into the model directory."""
    if found and found.head:
        found.head.save(model)


def summary(told: Mapping[str, Any]) -> str:
    """The facts in a line."""
    if "rows" not in told:
        return f"none: {told.get('absent', 'trained before there was one')}"
    kept = told.get("kept")
    return f"the parent's: {kept}" if kept else f"learnt from {sum(told['rows'].values()):,} shown items"
