"""What a purchase looked like when it was made: the columns whose mix is watched.

Every column is a small set of named groups. Groups are cut on the reference alone, and what a row says of its shopper and item
is what was known when its interval began, for the reference and the current interval alike: no leak, no difference by design.
"""

from __future__ import annotations

import itertools
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from endcap.monitoring.checks import Check, Kind
from endcap.monitoring.distances import chance_psi, leave_one_out, psi, usual

if TYPE_CHECKING:
    from endcap.monitoring.windows import Windows

QUANTILES = 8
RARE_SHARE = 0.01  # categories below this share of the reference are counted together
NOT_SEEN = "not in the reference"
POPULARITY_DAYS = 28


def describe(purchases: pd.DataFrame, catalog: pd.DataFrame, windows: Windows) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Reference and current rows, one per purchase, in groups; `block` is 0 for the oldest, `windows.blocks` for the current.

    Args:
        purchases: user_id, item_id, time (UTC), quantity, price, country; from `windows.lookback` before the reference on.
        catalog: item_id, category, price. A column with fewer than two groups in the reference is left out.
    """
    starts = [*windows.block_starts, windows.start]
    frames = [_interval(purchases, start, windows, block) for block, start in enumerate(starts)]
    rows = pd.concat(frames, ignore_index=True).join(_item_columns(catalog), on="item_id")
    is_current = rows["block"].to_numpy() == windows.blocks
    grouped = _group(rows, ~is_current)
    grouped["block"] = rows["block"]
    return grouped[~is_current].reset_index(drop=True), grouped[is_current].reset_index(drop=True)


def check_columns(reference: pd.DataFrame, current: pd.DataFrame, *, psi_threshold: float, unusual_ratio: float) -> list[Check]:
    """One check a column: drifted when its psi is beyond `psi_threshold`, chance, and the usual psi × `unusual_ratio` squared.

    Squared, because psi grows with the square of a shift, where the ratio is meant for the shift itself.
    """
    blocks = np.concatenate([reference["block"].to_numpy(), np.full(len(current), -1)])
    checks = []
    for name in [str(column) for column in reference.columns if column != "block"]:
        codes, groups = pd.factorize(pd.concat([reference[name], current[name]]))
        counts_WK = np.zeros((int(blocks.max()) + 2, len(groups)))  # the last row is the current interval
        np.add.at(counts_WK, (blocks, codes), 1)
        history = leave_one_out(counts_WK[:-1], psi)
        total_K, newest_K = counts_WK[:-1].sum(axis=0), counts_WK[-1]
        value = psi(total_K, newest_K)
        allowed = max(psi_threshold, unusual_ratio**2 * usual(history), chance_psi(total_K, newest_K))
        checks.append(Check(name, Kind.COLUMN, value, allowed, value >= allowed, usual(history), "psi", tuple(history)))
    return checks


def _interval(purchases: pd.DataFrame, start: datetime, windows: Windows, block: int) -> pd.DataFrame:
    """The rows of one interval with what was known at its start."""
    times, moment = purchases["time"], pd.Timestamp(start)
    end, lookback = moment + windows.length, pd.Timedelta(windows.lookback)
    before = purchases[(times >= moment - lookback) & (times < moment)]
    rows = purchases.loc[
        (times >= moment) & (times < end), ["user_id", "item_id", "time", "quantity", "price", "country"]
    ].copy()
    rows["block"] = block
    recent = before.loc[before["time"] >= moment - pd.Timedelta(days=POPULARITY_DAYS), "item_id"].value_counts()
    rows["rank"] = rows["item_id"].map(pd.Series(np.arange(1, len(recent) + 1), index=recent.index))
    rows["item_age"] = _days(moment - rows["item_id"].map(before.groupby("item_id")["time"].min()))
    rows["past_purchases"] = rows["user_id"].map(before["user_id"].value_counts())
    rows["away_days"] = _days(moment - rows["user_id"].map(before.groupby("user_id")["time"].max()))
    seen = pd.MultiIndex.from_frame(before[["user_id", "item_id"]].drop_duplicates())
    rows["repeat"] = pd.MultiIndex.from_frame(rows[["user_id", "item_id"]]).isin(seen)
    return rows


def _days(spans: pd.Series) -> pd.Series:
    days: pd.Series = spans.dt.total_seconds() / 86400
    return days


def _item_columns(catalog: pd.DataFrame) -> pd.DataFrame:
    indexed = catalog.drop_duplicates("item_id").set_index("item_id")
    return pd.DataFrame({"category": indexed["category"], "catalog_price": indexed["price"]}, index=indexed.index)


def _group(rows: pd.DataFrame, is_reference: np.ndarray) -> pd.DataFrame:
    columns = {
        "price": _bands(rows["price"], is_reference),
        "quantity": _bands(rows["quantity"], is_reference),
        "line value": _bands(rows["price"] * rows["quantity"], is_reference),
        "time of week": _time_of_week(rows["time"]),
        "country": _categories(rows["country"], is_reference),
        "category": _categories(rows["category"], is_reference),
        "item price": _bands(rows["catalog_price"], is_reference),
        "item popularity": _steps(rows["rank"], [0, 50, 200, 500, 1000, 2000], "rank", "not sold in 28 days"),
        "item age": _steps(rows["item_age"], [0, 28], "days", "not sold before"),
        "shopper history": _steps(rows["past_purchases"], [1, 20, 80, 250], "purchases", "none"),
        "shopper absence": _steps(rows["away_days"], [0, 7, 28, 91], "days", "not seen before"),
        "bought before": pd.Series(np.where(rows["repeat"], "yes", "no"), index=rows.index),
    }
    return pd.DataFrame({name: column for name, column in columns.items() if column[is_reference].nunique() > 1})


def _time_of_week(times: pd.Series) -> pd.Series:
    """Parts of a working day, and the weekend: wide enough that one public holiday is no drift."""
    names = ["1: before 10", "2: 10 to 12", "3: 12 to 14", "4: 14 to 16", "5: after 16"]
    part = np.array(names, dtype=object)[np.searchsorted([10, 12, 14, 16], times.dt.hour.to_numpy(), side="right")]
    return pd.Series(np.where(times.dt.dayofweek < 5, part, "6: weekend"), index=times.index)


def _bands(values: pd.Series, is_reference: np.ndarray) -> pd.Series:
    """Quantile bands of the reference, named by their upper edges."""
    known = values[is_reference].dropna().to_numpy(float)
    edges = np.unique(np.quantile(known, np.linspace(0, 1, QUANTILES + 1)[1:-1])) if len(known) else np.zeros(1)
    names = [f"{i + 1}: up to {edge:g}" for i, edge in enumerate(edges)] + [f"{len(edges) + 1}: above {edges[-1]:g}"]
    return _named(values, np.searchsorted(edges, values.to_numpy(float), side="left"), names, "unknown")


def _steps(values: pd.Series, lows: list[int], unit: str, missing: str) -> pd.Series:
    """Bands with fixed lower edges; `missing` where there is no value."""
    names = [f"{i + 1}: {unit} {low} to {high}" for i, (low, high) in enumerate(itertools.pairwise(lows))]
    names.append(f"{len(lows)}: {unit} {lows[-1]} and more")
    return _named(values, np.searchsorted(lows, values.to_numpy(float), side="right") - 1, names, missing)


def _named(values: pd.Series, codes: np.ndarray, names: list[str], missing: str) -> pd.Series:
    labels = np.array([*names, missing], dtype=object)
    return pd.Series(labels[np.where(values.isna(), len(names), np.clip(codes, 0, len(names) - 1))], index=values.index)


def _categories(values: pd.Series, is_reference: np.ndarray) -> pd.Series:
    shares = values[is_reference].value_counts(normalize=True)
    names = {name: str(name) if share >= RARE_SHARE else "rare ones" for name, share in shares.items()}
    known = values.map(names).to_numpy(object)
    unseen = np.where(values.isna(), "unknown", NOT_SEEN)
    return pd.Series(np.where(values.isin(list(names)), known, unseen), index=values.index)
