"""The case of a file of exposures with their outcomes: one row a shown item, every further column a context of the request.

Columns, by the first name that is there: item | item_id, time | timestamp, click | clicked; if any: purchase | purchased,
user | user_id | shopper, rank | position. Numbers are taken as they are, texts of few values one flag a value.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from endcap.benchmark.behaviour.case import Case, Side, time_cuts
from endcap.benchmark.input_files import in_lower_case, separator_of
from endcap.benchmark.tables import text_ids
from endcap.benchmark.times import read_times
from endcap.data.features import column_microseconds
from endcap.errors import InputError
from endcap.models.behaviour.calibration import log_odds
from endcap.models.behaviour.features import Features, place_features
from endcap.models.behaviour.item_rates import STRENGTH, ItemRates, running_counts, smoothed

if TYPE_CHECKING:
    import pandas as pd

NAMES = {
    "item": ("item", "item_id"),
    "time": ("time", "timestamp"),
    "click": ("click", "clicked"),
    "purchase": ("purchase", "purchased"),
    "user": ("user", "user_id", "shopper"),
    "rank": ("rank", "position"),
}
NEEDED = ("item", "time", "click")
OF_THE_POLICY = ("propensity", "propensity_score", "policy", "score", "request_id", "model_version", "fallback")
MAX_VALUES = 20  # a text column of more values names things rather than kinds


def file_case(paths: Sequence[Path], items_path: Path | None = None) -> Case:
    """The rows of all files together; `items_path` adds columns of items.

    Raises:
        InputError: a file or a needed column is missing, times do not parse, clicks are not 0 or 1, or nothing is in it.
    """
    import pandas as pd

    notes: list[str] = []
    parts = [_named(_read(path, notes), path, notes) for path in paths]
    rows = _checked(pd.concat(parts, ignore_index=True), ", ".join(path.name for path in paths))
    if items_path is not None:
        rows = rows.merge(_about_items(items_path, rows["item"], notes), on="item", how="left")
    times = column_microseconds(rows["time"])
    start, test = time_cuts(times)
    has_purchase = "purchase" in rows
    outcomes = np.stack([rows["click"], rows["purchase"] if has_purchase else np.zeros(len(rows))], axis=1).astype(np.float64)
    outcomes[:, 0] = outcomes.max(axis=1)
    past = times < test
    frozen = ItemRates.count(rows["item"].to_numpy(object)[past], outcomes[past])
    counts = np.where(
        past[:, None],
        running_counts(pd.factorize(rows["item"])[0], times, times - 1, outcomes),
        frozen.of(rows["item"].to_numpy(object)),
    )
    features = _features(rows, counts, frozen, past)
    shopper = rows["user"].to_numpy(object) if "user" in rows else np.arange(len(rows)).astype(object)
    slices = pd.DataFrame(
        {"place": [f"place {rank:g}" for rank in rows["rank"]] if "rank" in rows else "any place"}, rows.index
    )
    sides = [
        Side(features.rows(part), outcomes[part], rows["item"].to_numpy(object)[part], shopper[part], slices[part])
        for part in (past, ~past)
    ]
    name = "+".join(path.name.split(".")[0] for path in paths)
    facts = {"files": [path.name for path in paths], "features": list(features.names), "notes": notes}
    tasks = ("click", "purchase") if has_purchase else ("click",)
    return Case(name, sides[0], times[past] < start, sides[1], tasks, facts)


def _read(path: Path, notes: list[str]) -> pd.DataFrame:
    """The rows of a file, columns named in lower case, without those that are no numbers, texts or times, which is noted.

    Raises:
        InputError: unreadable, or two names differ in case alone.
    """
    import pandas as pd

    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, sep=separator_of(path))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read ({error})", field=str(path), action="Give a parquet or CSV file.") from error
    frame = in_lower_case(frame[[column for column in frame if column and not str(column).startswith("Unnamed:")]], path)
    lists = [str(name) for name in frame if any(map(_is_list, frame[name]))]
    if lists:
        notes.append(
            f"{path.name}: columns of lists left out: {', '.join(lists)}; make numbers or texts of them to have them read"
        )
    return frame.drop(columns=lists)


def _is_list(value: object) -> bool:
    return isinstance(value, Collection) and not isinstance(value, str)


def _about_items(path: Path, shown: pd.Series[Any], notes: list[str]) -> pd.DataFrame:
    """A row an item: `item`, and every further column with "_of_item" behind its name.

    Raises:
        InputError: no column of items, or not one of those that were shown.
    """
    frame = _read(path, notes)
    key = next((name for name in NAMES["item"] if name in frame), None)
    if key is None:
        raise InputError("has no column of items", field=str(path), value=list(frame), action="Name it item_id.")
    ids = text_ids(frame[key], f"{path}: {key}")
    about = frame.drop(columns=[name for name in NAMES["item"] if name in frame]).add_suffix("_of_item").assign(item=ids)
    if not about["item"].isin(shown).any():
        action = "Are these ids of another kind, or is it another shop's file?"
        raise InputError("lists no item that was shown", field=str(path), value=(ids[0], shown.iloc[0]), action=action)
    return about.drop_duplicates("item")


def _named(frame: pd.DataFrame, path: Path, notes: list[str]) -> pd.DataFrame:
    """The rows of one file, the known columns under one name, times and ids read."""
    import pandas as pd

    found = {name: next((one for one in options if one in frame), None) for name, options in NAMES.items()}
    missing = [name for name in NEEDED if found[name] is None]
    if missing or frame.empty:
        action = f"Columns: {', '.join(NEEDED)}; at least one row."
        raise InputError("lacks a column or rows", field=path.name, value=missing or 0, action=action)
    aliases = {one for options in NAMES.values() for one in options} - set(found.values())
    rows = frame.drop(columns=[name for name in frame if name in aliases])  # a second name of an outcome would tell it
    times = read_times(frame[found["time"]], f"{path.name}: {found['time']}")
    notes += [f"{path.name}: {note}" for note in times.notes]
    ids = text_ids(frame[found["item"]], f"{path.name}: {found['item']}")
    rows = rows.rename(columns={old: name for name, old in found.items() if old})
    return rows.assign(time=pd.to_datetime(times.us, unit="us", utc=True), item=ids)


def _checked(rows: pd.DataFrame, where: str) -> pd.DataFrame:
    """The rows of all files, their outcomes and ranks checked, in order of time."""
    import pandas as pd

    for name in ("click", "purchase"):
        if name in rows and not rows[name].isin([0, 1]).all():
            raise InputError(
                "must be 0 or 1", field=f"{where}: {name}", value=rows[name].unique()[:5].tolist(), action="Mend it."
            )
    if "rank" in rows:
        rows["rank"] = pd.to_numeric(rows["rank"], errors="coerce")
        if rows["rank"].isna().any():
            raise InputError("must be a number", field=f"{where}: rank", value="a missing one or a text", action="Mend it.")
    told = [
        name
        for name in rows
        if name not in NAMES and any(_same(rows[name], rows[task]) for task in ("click", "purchase") if task in rows)
    ]
    if told:
        raise InputError(
            "tells the outcome", field=where, value=told, action="Take these columns out: they are not known before."
        )
    rows = rows.drop(columns=[name for name in OF_THE_POLICY if name in rows])
    return rows.sort_values("time", kind="stable", ignore_index=True)


def _same(column: pd.Series[Any], outcome: pd.Series[Any]) -> bool:
    import pandas as pd

    numbers = pd.to_numeric(column, errors="coerce")
    return bool(outcome.nunique() > 1 and (numbers == outcome).all())


def _features(rows: pd.DataFrame, counts: npt.NDArray[np.float64], frozen: ItemRates, past: npt.NDArray[np.bool_]) -> Features:
    import pandas as pd

    rates = log_odds(smoothed(counts, frozen.means(), STRENGTH))
    table: dict[str, Any] = {"item_click_rate": rates[:, 0], "item_shown": np.log1p(counts[:, 0])}
    if "rank" in rows:
        rank = rows["rank"].to_numpy(np.float64)
        table |= place_features(rank) | {f"at_{v:g}": rank == v for v in np.unique(rank)[:MAX_VALUES]}
    hour = (rows["time"].dt.hour + rows["time"].dt.minute / 60).to_numpy() / 24
    table |= {"hour_sin": np.sin(2 * np.pi * hour), "hour_cos": np.cos(2 * np.pi * hour)}
    for column in rows.columns.difference(list(NAMES), sort=False):
        values = rows[column]
        if pd.api.types.is_numeric_dtype(values):
            table[str(column)] = values.to_numpy(np.float64)
        elif (kinds := values[past].value_counts()).size <= MAX_VALUES:
            table |= {f"{column}={kind}": (values == kind).to_numpy() for kind in kinds.index}
    return Features(tuple(table), np.stack([np.asarray(v, np.float64) for v in table.values()], axis=1))
