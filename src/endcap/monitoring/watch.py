"""Everything that is watched, in one call: tables in, checks and a decision out. Not here: the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from endcap.errors import InputError
from endcap.monitoring.checks import Check, Decision, decide
from endcap.monitoring.columns import check_columns, describe
from endcap.monitoring.online_metrics import check_online, judge_requests, quality
from endcap.monitoring.scores import check_scores, top_scores
from endcap.monitoring.text import check_text, movers, text_points

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from endcap.models.history import Scorer
    from endcap.monitoring.windows import Windows
    from endcap.sections import Monitoring

MIN_PURCHASES = 50  # fewer in the newest interval say nothing about a mix


@dataclass(frozen=True, eq=False)
class Champion:
    """What is compared with: the model, its item table (item_id, title, category, brand) and their text vectors (I, D)."""

    model: Scorer
    items: pd.DataFrame
    text_vectors: NDArray[np.float32]
    target_types: tuple[str, ...]  # what the model learns to lead to: purchases, where the shop has them


@dataclass(frozen=True, eq=False)
class Watched:
    """Checks and decision, and the tables that the report shows."""

    checks: tuple[Check, ...]
    decision: Decision
    reference: pd.DataFrame  # columns.describe
    current: pd.DataFrame
    movers: pd.DataFrame  # text.movers
    quality: pd.DataFrame  # online_metrics.quality


def watch(
    events: pd.DataFrame,
    catalog: pd.DataFrame,
    exposures: pd.DataFrame,
    champion: Champion,
    windows: Windows,
    params: Monitoring,
    encode: Callable[[pd.DataFrame], NDArray[np.float32]],
) -> Watched:
    """Check columns, texts, model scores and online quality.

    Args:
        events: contracts.dataset_event_schema(), from `windows.lookback` before the reference until `windows.end`.
        catalog, exposures: contracts.catalog_schema(), contracts.exposure_schema().
        encode: rows of a catalogue to text vectors, as the champion's items were encoded.

    Raises:
        InputError: the newest interval has too few purchases (or what the champion takes in their place).
    """
    targets = champion.target_types
    taken = events["type"].isin(targets) & (events["quantity"].fillna(1.0) > 0)
    purchases = events[taken].sort_values("time", kind="stable")
    bought = purchases.loc[purchases["time"] >= windows.start, "item_id"]
    if len(bought) < MIN_PURCHASES:
        raise InputError(
            f"fewer than {MIN_PURCHASES} {' and '.join(f'{kind}s' for kind in targets)} in the newest interval",
            field=f"{windows.start:%Y-%m-%d} to {windows.end:%Y-%m-%d}",
            value=len(bought),
            action="Drift is checked when there are more.",
        )
    limits = {"psi_threshold": params.psi_threshold, "unusual_ratio": params.unusual_ratio}
    reference, current = describe(purchases, catalog, windows)
    points = text_points(champion.items, champion.text_vectors, catalog, bought, encode)
    scores = check_scores(top_scores(champion.model, purchases, windows), **limits)
    requests = judge_requests(exposures, events, timedelta(hours=params.attribution_hours), windows.end)
    checks = (
        check_text(purchases, windows, points, threshold=params.text_threshold, unusual_ratio=params.unusual_ratio),
        *([scores] if scores else []),
        *check_online(
            requests,
            windows,
            previous=params.online_intervals,
            min_ratio=params.min_online_ratio,
            min_requests=params.min_online_requests,
        ),
        *check_columns(reference, current, **limits),
    )
    return Watched(
        checks,
        decide(checks, drift_share=params.drift_share, strong_psi=params.strong_psi),
        reference,
        current,
        movers(purchases, windows, catalog),
        quality(requests, windows, params.online_intervals),
    )
