"""Do the texts of what is bought still say what they said? A kernel distance between bought items' text vectors.

Every text is one point; a week is how often each point was bought. So nothing is sampled in an ordinary catalogue, and an item
whose text was rewritten is a new point. Not here: how texts become vectors (models/text/encoder.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from endcap.monitoring.checks import Check, Kind
from endcap.monitoring.distances import chance_mmd, gaussian_kernel, leave_one_out, mmd, usual

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from endcap.monitoring.windows import Windows

NAME = "text of bought items"
MAX_POINTS = 4000  # the kernel has this many rows and columns: about a second on one core
MAX_ENCODED = 400  # texts encoded in one check; the most bought ones come first


@dataclass(frozen=True, eq=False)
class TextPoints:
    """P text vectors (P, D) of unit length, and which of them an item had when the champion learnt and has now."""

    vectors: NDArray[np.float32]
    before: Mapping[str, int]
    now: Mapping[str, int]


def text_points(
    learnt: pd.DataFrame,
    vectors_ID: NDArray[np.float32],
    catalog: pd.DataFrame,
    bought: pd.Series,
    encode: Callable[[pd.DataFrame], NDArray[np.float32]],
    columns: tuple[str, ...] = ("title", "category", "brand"),
) -> TextPoints:
    """The champion's own vectors for texts it knows, freshly encoded ones for new and rewritten texts.

    Args:
        learnt: the champion's item table (item_id and `columns`), in the order of `vectors_ID` (I, D).
        catalog: the dataset version's catalogue, the same columns.
        bought: the item of each purchase in the current interval; what nobody bought now needs no new vector, and beyond
            MAX_ENCODED the least bought are left out of the comparison.
        encode: rows of the catalogue to (N, D) vectors; zeros where there is none. Items without a vector are left out.
    """
    has_text = np.any(vectors_ID, axis=1).tolist()
    before = {str(item): place for place, item in enumerate(learnt["item_id"]) if has_text[place]}
    wanted = catalog[catalog["item_id"].isin(bought)].drop_duplicates("item_id")
    old = learnt.set_index("item_id")[list(columns)].fillna("").reindex(wanted["item_id"])
    same = (old.to_numpy(object) == wanted[list(columns)].fillna("").to_numpy(object)).all(axis=1)
    now = {str(item): before[str(item)] for item in wanted.loc[same, "item_id"] if str(item) in before}
    changed = wanted[~same].set_index("item_id", drop=False)
    order = bought[bought.isin(changed.index)].value_counts().index[:MAX_ENCODED]
    vectors = [_unit(vectors_ID)]
    if len(order):
        fresh = encode(changed.loc[order].reset_index(drop=True))
        vectors.append(_unit(fresh))
        now |= {str(item): len(vectors_ID) + row for row, item in enumerate(order) if fresh[row].any()}
    return TextPoints(np.concatenate(vectors), before, now)


def movers(purchases: pd.DataFrame, windows: Windows, catalog: pd.DataFrame, most: int = 10) -> pd.DataFrame:
    """The items whose share of all purchases rose most and fell most: title, before, now (shares)."""
    times = purchases["time"]
    reference = purchases.loc[(times >= windows.reference_start) & (times < windows.reference_end), "item_id"]
    current = purchases.loc[(times >= windows.start) & (times < windows.end), "item_id"]
    shares = pd.DataFrame(
        {"before": reference.value_counts(normalize=True), "now": current.value_counts(normalize=True)}
    ).fillna(0.0)
    order = (shares["now"] - shares["before"]).sort_values(ascending=False, kind="stable").index
    chosen = shares.loc[[*order[:most], *order[-most:]]] if len(order) > 2 * most else shares.loc[order]
    titles = catalog.drop_duplicates("item_id").set_index("item_id")["title"].reindex(chosen.index)
    return chosen.assign(title=titles.fillna(pd.Series(chosen.index, index=chosen.index))).reset_index(drop=True)


def check_text(
    purchases: pd.DataFrame, windows: Windows, points: TextPoints, *, threshold: float, unusual_ratio: float, seed: int = 0
) -> Check:
    """Distance (mmd, Gaussian kernel) between the texts bought in the reference and now, against the usual one and chance.

    Args:
        purchases: item_id, time (UTC).
    """
    counts_WP = np.stack(
        [_counts(purchases, start, windows, points, points.before) for start in windows.block_starts]
        + [_counts(purchases, windows.start, windows, points, points.now)]
    )
    used = np.flatnonzero(counts_WP.sum(axis=0))
    if len(used) > MAX_POINTS:
        used = np.sort(np.random.default_rng(seed).choice(used, MAX_POINTS, replace=False))
    counts_WP, kernel_PP = counts_WP[:, used], gaussian_kernel(points.vectors[used])

    def distance(p_P: NDArray[np.float64], q_P: NDArray[np.float64]) -> float:
        return mmd(kernel_PP, p_P, q_P)

    history = leave_one_out(counts_WP[:-1], distance)
    total_P, newest_P = counts_WP[:-1].sum(axis=0), counts_WP[-1]
    value = distance(total_P, newest_P)
    allowed = max(threshold, unusual_ratio * usual(history), chance_mmd(kernel_PP, total_P, newest_P, seed=seed))
    return Check(NAME, Kind.TEXT, value, allowed, value >= allowed, usual(history), "mmd", tuple(history))


def _counts(
    purchases: pd.DataFrame, start: object, windows: Windows, points: TextPoints, places: Mapping[str, int]
) -> NDArray[np.float64]:
    moment = pd.Timestamp(start)  # type: ignore[arg-type]
    inside = (purchases["time"] >= moment) & (purchases["time"] < moment + windows.length)
    found = purchases.loc[inside, "item_id"].map(places).dropna().astype(int)
    return np.bincount(found, minlength=len(points.vectors)).astype(np.float64)


def _unit(vectors_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (vectors_ND / np.maximum(lengths, 1e-9)).astype(np.float32)
    return unit
