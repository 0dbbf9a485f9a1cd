"""The log of a policy as a file: one row a shown item, with the chance that it was shown and what it earned.

Columns by the first name that is there (NAMES, REWARDS), as the exposure log or the Open Bandit data set calls them. Columns
whose names begin with CONTEXTS are what was known of the request.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from endcap.benchmark.input_files import read_frame
from endcap.benchmark.tables import text_ids
from endcap.benchmark.times import how_many, read_times
from endcap.errors import InputError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NAMES = {
    "item": ("item_id", "item"),
    "place": ("rank", "position"),
    "propensity": ("propensity", "propensity_score", "pscore"),
    "request": ("request_id", "request"),
    "user": ("user_id", "user", "shopper"),
    "context": ("context",),
    "time": ("time", "timestamp"),
}
KEYS: tuple[str, ...] = ("request", "user", "context")  # by which a policy may differ
REWARDS = ("reward", "click", "clicked", "purchase", "purchased")
CONTEXTS = ("context", "user_feature")
MAX_KINDS = 20  # of a text that is a context; more of them name things
MAX_PLACES = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """N shown items. Places count from 0; `keys` are the texts by which a policy file may speak of a row."""

    items: Ints  # (N,) codes into item_ids
    item_ids: npt.NDArray[Any]  # (A,)
    places: Ints  # (N,)
    rewards: Floats  # (N,)
    propensities: Floats  # (N,) above 0, at most 1
    keys: dict[str, npt.NDArray[Any]]  # request, user, context → (N,), those that the file has
    clusters: npt.NDArray[Any]  # (N,) the shopper, else the request, else the row
    contexts: Floats  # (N, F)
    facts: dict[str, Any]

    def __len__(self) -> int:
        return len(self.items)


def read_log(path: Path, reward: str | None = None) -> Log:
    """The log of a file; `reward` names the column to judge by, else it is the first of REWARDS.

    Raises:
        InputError: unreadable, a column is missing, or a value is none of its column's.
    """
    frame, where = read_frame(path), str(path)
    columns = {role: name for role, names in NAMES.items() for name in names[::-1] if name in frame}
    columns["reward"] = _reward_column(frame, reward, where)
    for role in ("item", "propensity"):
        if role not in columns:
            action = f"Name a column {' or '.join(NAMES[role])}."
            raise InputError("the column is missing", field=f"{where}: {role}", value=list(frame), action=action)
    if frame.empty:
        raise InputError("has no rows", field=where, value=0, action="Give at least one shown item.")
    ids = text_ids(frame[columns["item"]], f"{where}: {columns['item']}")
    items, item_ids = pd.factorize(ids)
    propensities = numbers(frame[columns["propensity"]], f"{where}: {columns['propensity']}", "above 0 and at most 1", (0, 1))
    if (zero := propensities <= 0).any():
        told = how_many(zero, frame[columns["propensity"]])
        action = "What was shown had a chance of it: log that one. Rows that nobody chose are no choices: drop them."
        raise InputError("must be above 0 and at most 1", field=f"{where}: {columns['propensity']}", value=told, action=action)
    has_place = "place" in columns
    places = from_zero(frame[columns["place"]], f"{where}: {columns['place']}") if has_place else np.zeros(len(frame), np.int64)
    keys = {role: _texts(frame[columns[role]]) for role in KEYS if role in columns}
    if "request" in keys:
        _check_once(keys["request"], places, where)
    facts: dict[str, Any] = {"rows": len(frame), "items": len(item_ids), "places": int(places.max()) + 1, "columns": columns}
    if "time" in columns:
        us = read_times(frame[columns["time"]], f"{where}: {columns['time']}").us
        facts["period"] = [str(np.datetime64(int(moment), "us")) for moment in (us.min(), us.max())]
    contexts, facts["contexts"] = _contexts(frame)
    rewards = numbers(frame[columns["reward"]], f"{where}: {columns['reward']}", "a number")
    clusters = _clusters(keys, len(frame))
    facts["clusters"] = len(np.unique(clusters))
    return Log(items.astype(np.int64), item_ids, places, rewards, propensities, keys, clusters, contexts, facts)


def numbers(column: pd.Series[Any], field: str, what: str, within: tuple[float, float] = (-np.inf, np.inf)) -> Floats:
    """(N,) finite numbers; true and false are 1 and 0.

    Raises:
        InputError: a value is none, or not within the limits.
    """
    given = column
    if not pd.api.types.is_numeric_dtype(given):
        texts = given.astype("string").str.strip().str.lower()
        given = texts.replace({"true": "1", "false": "0"})
    values: Floats = pd.to_numeric(given, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    wrong = ~(np.isfinite(values) & (values >= within[0]) & (values <= within[1]))
    if wrong.any():
        action = "Mend or drop these rows."
        raise InputError(f"must be {what}", field=field, value=how_many(wrong, column), action=action)
    return values


def from_zero(column: pd.Series[Any], field: str) -> Ints:
    """(N,) places from 0: as they are where a 0 occurs, else one less.

    Raises:
        InputError: a place is no whole number from 0 on.
    """
    values = numbers(column, field, f"a place: 0, 1, 2, … up to {MAX_PLACES:,}", (0, MAX_PLACES))
    if (broken := values % 1 != 0).any():
        raise InputError("must be whole", field=field, value=how_many(broken, column), action="Places count 0, 1, 2, …")
    places: Ints = (values - (values.min() > 0)).astype(np.int64)
    return places


def _reward_column(frame: pd.DataFrame, reward: str | None, where: str) -> str:
    wanted = [reward.strip().lower()] if reward else list(REWARDS)
    found = next((name for name in wanted if name in frame), None)
    if found is None:
        action = "Name the column that says what a shown item earned with --reward." if not reward else "Name one of these."
        raise InputError(f"has no column {' or '.join(wanted)}", field=f"{where}: reward", value=list(frame), action=action)
    return found


def _texts(column: pd.Series[Any]) -> npt.NDArray[Any]:
    """(N,) texts, empty where none is given; whole numbers that a file stores as floats lose their ".0"."""
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    return np.asarray(column.astype("string").str.strip().fillna(""), object)


def _check_once(requests: npt.NDArray[Any], places: Ints, where: str) -> None:
    """One item a place of a request; rows without a request belong to none."""
    table = pd.DataFrame({"request": requests, "place": places})
    twice = (table.duplicated() & (table["request"] != "")).to_numpy()
    if twice.any():
        told = how_many(twice, table["request"])
        action = "Keep one, or give each answer a request_id of its own."
        raise InputError("a place of a request is filled twice", field=f"{where}: request_id", value=told, action=action)


def _clusters(keys: dict[str, npt.NDArray[Any]], count: int) -> npt.NDArray[Any]:
    """(N,) whose rows depend on each other: a shopper's; those of a request where the shopper is not known; else a row."""
    found = np.array([f"row {row}" for row in range(count)], object)
    for role in ("request", "user"):
        if role in keys:
            known = keys[role] != ""
            found[known] = np.char.add(f"{role} ", keys[role][known].astype(str))
    return np.asarray(pd.factorize(found)[0])


def _contexts(frame: pd.DataFrame) -> tuple[Floats, list[str]]:
    """(N, F) numbers as they are and flags of texts of few kinds; what they were made of."""
    parts, used = [], []
    for name in frame:
        if not str(name).startswith(CONTEXTS):
            continue
        values = pd.to_numeric(frame[name], errors="coerce").to_numpy(np.float64, na_value=np.nan)
        kinds, texts = pd.factorize(frame[name].astype("string"), use_na_sentinel=False)
        if np.isfinite(values).all():
            parts.append(values[:, None])
        elif len(texts) <= MAX_KINDS:
            parts.append(np.equal.outer(kinds, np.arange(1, len(texts))).astype(np.float64))
        else:
            continue
        used.append(str(name))
    return np.hstack(parts) if parts else np.zeros((len(frame), 0)), used
