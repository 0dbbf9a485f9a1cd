"""Is the champion as sure of itself as it was? The mean of its ten best scores, shopper by shopper."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from endcap.models.history import History
from endcap.monitoring.checks import Check, Kind
from endcap.monitoring.distances import chance_psi, leave_one_out, psi, usual

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from endcap.models.history import Scorer
    from endcap.monitoring.windows import Windows

NAME = "model scores"
SHOPPERS = 256  # asked in each interval
TOP = 10
BANDS = 5
MAX_HISTORY = 200  # newest purchases of a shopper that are read


def top_scores(model: Scorer, purchases: pd.DataFrame, windows: Windows, *, seed: int = 0) -> list[NDArray[np.float64]]:
    """For each block and last for the current interval: the mean of the TOP best scores of shoppers who came in it.

    A shopper's history is what was known when the interval began; shoppers without one all score alike and are left out.

    Args:
        purchases: user_id, item_id, time (UTC), type, quantity, price, surface, country; sorted by time.
    """
    rng = np.random.default_rng(seed)
    found = []
    for start in [*windows.block_starts, windows.start]:
        histories = _histories(purchases, start, windows, rng)
        scores_BI = model.score(histories, start) if histories else np.zeros((0, TOP), np.float32)
        best = np.partition(scores_BI, -min(TOP, scores_BI.shape[1]), axis=1)[:, -TOP:]
        found.append(best.mean(axis=1, dtype=np.float64))
    return found


def check_scores(scores: list[NDArray[np.float64]], *, psi_threshold: float, unusual_ratio: float) -> Check | None:
    """The psi of the current interval's scores over BANDS quantile bands of the reference; None where nobody could be asked."""
    reference = np.concatenate(scores[:-1])
    if len(reference) < 2 * BANDS or len(scores[-1]) < 2 * BANDS:
        return None
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, BANDS + 1)[1:-1]))
    counts_WK = np.stack([np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1) for values in scores]).astype(
        float
    )
    history = leave_one_out(counts_WK[:-1], psi)
    total_K, newest_K = counts_WK[:-1].sum(axis=0), counts_WK[-1]
    value = psi(total_K, newest_K)
    allowed = max(psi_threshold, unusual_ratio**2 * usual(history), chance_psi(total_K, newest_K))
    return Check(NAME, Kind.SCORES, value, allowed, value >= allowed, usual(history), "psi", tuple(history))


def _histories(purchases: pd.DataFrame, start: datetime, windows: Windows, rng: np.random.Generator) -> list[History]:
    times = purchases["time"]
    before = purchases[(times >= start - windows.lookback) & (times < start)]
    came = purchases.loc[(times >= start) & (times < start + windows.length), "user_id"].unique()
    known = np.intersect1d(came.astype(str), before["user_id"].unique().astype(str))
    chosen = rng.permutation(known)[:SHOPPERS]
    rows = before[before["user_id"].isin(chosen)].sort_values("user_id", kind="stable")  # stays sorted by time within a shopper
    names = ("item_id", "type", "surface", "country")
    items, types, surfaces, countries = (rows[name].fillna("").to_numpy(object) for name in names)
    quantities, prices = (rows[name].to_numpy(float) for name in ("quantity", "price"))
    moments = rows["time"].dt.tz_localize(None).to_numpy("datetime64[us]")
    ends = np.cumsum(np.unique(rows["user_id"].to_numpy(str), return_counts=True)[1])
    starts = np.maximum(np.concatenate([[0], ends[:-1]]), ends - MAX_HISTORY).astype(int) if len(ends) else ends
    places = [slice(begin, end) for begin, end in zip(starts, ends, strict=True)]
    everything = History(items, moments, types, quantities, prices, surfaces, countries)
    return [everything.part(place) for place in places]
