"""The policy to judge, as a file: the probability of each item at each place, for all or by request, shopper or context."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from endcap.benchmark.input_files import read_frame
from endcap.benchmark.off_policy.log_file import KEYS, NAMES, Floats, Ints, Log, from_zero, numbers
from endcap.benchmark.tables import text_ids
from endcap.benchmark.times import how_many
from endcap.errors import InputError, shorten

PROBABILITY = ("probability", "chance", "propensity")
TOLERANCE = 1e-4  # of a sum of probabilities, which files round


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """Probabilities by G groups (a key and a place) and the log's items; row n of the log plays by `table[groups[n]]`."""

    table: Any  # (G, A) sparse, over the log's items
    groups: Ints  # (N,)
    unseen: float  # share of what it plays that the log never shows at that place
    example: str  # the item that it plays most of these
    facts: dict[str, Any]

    def chances(self, items: Ints) -> Floats:
        """(N,) the probability of one item a row."""
        return np.asarray(self.table[self.groups, items], np.float64).ravel()


def read_policy(path: Path, log: Log) -> Policy:
    """The policy of a file, for every row of the log.

    Raises:
        InputError: unreadable, a column is missing, probabilities do not sum to one, or a row of the log finds none.
    """
    frame, where = read_frame(path), str(path)
    item, probability, place, key = _columns(frame, where)
    ids = text_ids(frame[item], f"{where}: {item}")
    chances = numbers(frame[probability], f"{where}: {probability}", "within 0 and 1", (0, 1))
    table = pd.DataFrame({"item": ids, "chance": chances})
    table["place"] = from_zero(frame[place], f"{where}: {place}") if place else 0
    table["key"] = text_ids(frame[key[1]], f"{where}: {key[1]}") if key else ""
    _check(table, where, frame[item])
    groups = table.groupby(["key", "place"], sort=False).ngroup().to_numpy()
    wanted = pd.DataFrame({"key": _keys_of(log, key, where), "place": log.places if place else 0})
    known = table[["key", "place"]].assign(group=groups).drop_duplicates()
    found = wanted.merge(known, on=["key", "place"], how="left")["group"]
    if found.isna().any():
        missing = found.isna().to_numpy()
        first = wanted[missing].iloc[0]
        told = (
            f"{key[0] if key else 'place'} {first['key']!r}, place {first['place'] + 1}"
            if key
            else f"place {first['place'] + 1}"
        )
        action = "Give probabilities for every row of the log, or leave these rows out of it."
        value = f"{told}; {int(missing.sum()):,} of {len(log):,} rows"
        raise InputError("says nothing of rows of the log", field=where, value=value, action=action)
    rows = found.to_numpy(np.int64)
    return _policy(table, groups, rows, log, {"by": key[0] if key else "everybody", "places": bool(place)})


def _columns(frame: pd.DataFrame, where: str) -> tuple[str, str, str | None, tuple[str, str] | None]:
    """The columns of item and probability, and if any of the place and the key (role, name)."""

    def first(names: tuple[str, ...]) -> str | None:
        return next((name for name in names if name in frame), None)

    item, probability = first(NAMES["item"]), first(PROBABILITY)
    for role, found, names in (("item", item, NAMES["item"]), ("probability", probability, PROBABILITY)):
        if found is None:
            action = f"Name a column {' or '.join(names)}."
            raise InputError("the column is missing", field=f"{where}: {role}", value=list(frame), action=action)
    if frame.empty:
        raise InputError("has no rows", field=where, value=0, action="Give each item's probability.")
    keys = [(role, name) for role in KEYS if (name := first(NAMES[role])) is not None]
    if len(keys) > 1:
        action = "Keep one: a policy is by request, by user or by context."
        raise InputError("has several keys", field=where, value=[name for _, name in keys], action=action)
    return str(item), str(probability), first(NAMES["place"]), keys[0] if keys else None


def _check(table: pd.DataFrame, where: str, items: pd.Series[Any]) -> None:
    twice = table.duplicated(["key", "place", "item"]).to_numpy()
    if twice.any():
        action = "Give each item once, for each place and key."
        raise InputError("items are listed twice", field=f"{where}: item", value=how_many(twice, items), action=action)
    sums = table.groupby(["key", "place"], sort=False)["chance"].sum()
    wrong = (sums - 1).abs() > TOLERANCE
    if wrong.any():
        (key, place), value = sums[wrong].index[0], float(sums[wrong].iloc[0])
        told = f"{value:.6g} at place {place + 1}" + (f" of {shorten(key, 60)}" if key else "")
        action = "Give every item that may be shown; the probabilities of a place sum to one."
        value_told = f"{told}; {int(wrong.sum()):,} of {len(sums):,} sums"
        raise InputError("probabilities do not sum to one", field=f"{where}: probability", value=value_told, action=action)


def _keys_of(log: Log, key: tuple[str, str] | None, where: str) -> npt.NDArray[Any]:
    if key is None:
        return np.full(len(log), "", object)
    if key[0] not in log.keys:
        action = f"Name a column {' or '.join(NAMES[key[0]])} in the log, or give a policy for everybody."
        raise InputError(f"is by {key[0]}, of which the log tells nothing", field=where, value=key[1], action=action)
    return log.keys[key[0]]


def _policy(table: pd.DataFrame, groups: npt.NDArray[Any], rows: Ints, log: Log, facts: dict[str, Any]) -> Policy:
    """Cut to the log's items; what is lost by that, or never shown at its place, is `unseen`."""
    from scipy import sparse

    played = np.bincount(rows, minlength=groups.max() + 1)  # rows of the log by group
    codes = pd.Index(log.item_ids).get_indexer(pd.Index(table["item"]))
    by_place = np.bincount(log.places) / len(log)
    seen_KA = np.zeros((len(by_place), len(log.item_ids)), np.bool_)
    seen_KA[log.places, log.items] = True
    if facts["places"]:
        never = ~seen_KA[np.minimum(table["place"], len(by_place) - 1), codes]
    else:  # one distribution for all places: an item must have been shown at each
        never = (by_place[:, None] * ~seen_KA).sum(axis=0)[codes]
    lost = np.where(codes >= 0, never, 1.0)
    mass = table["chance"].to_numpy() * lost * played[groups] / len(log)
    known = codes >= 0
    chances = table["chance"].to_numpy()[known]
    shape = (int(groups.max()) + 1, len(log.item_ids))
    matrix = sparse.csr_array((chances, (groups[known], codes[known])), shape=shape)
    by_item = pd.Series(mass).groupby(table["item"].to_numpy()).sum()
    return Policy(matrix, rows, float(mass.sum()), str(by_item.idxmax()), facts | {"items": int(table["item"].nunique())})
