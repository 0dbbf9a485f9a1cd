"""What a batch is checked against: the frame that the suites see and the values of their parameters.

Not here: the suites (`expectations/`) and running them (`validation.py`).
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from endcap.config import Ingest
from endcap.contracts import DatasetVersion, catalog_schema

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

DAY = timedelta(days=1)
VERSIONS_COMPARED = 5
PSEUDONYM = re.compile("[0-9a-f]{16}")
_REPEATED = ("type", "user_id", "item_id", "request_id", "surface", "country", "policy", "model_version")


def event_frame(rows: pa.Table, catalog: pa.Table) -> pd.DataFrame:
    """Events, exposures or interactions as their suite sees them: repeated strings as categories, and derived columns.

    `raw_user_id` holds user ids that are no pseudonyms, `unknown_item_id` item ids that the catalogue lacks (else null), and
    `price_to_catalogue` the price over the catalogue's. Checking these once a distinct value is what makes a million rows fast.
    """
    import pyarrow as pa

    for name in set(_REPEATED) & set(rows.column_names):
        column = rows[name]
        if pa.types.is_string(column.type):
            rows = rows.set_column(rows.column_names.index(name), name, column.dictionary_encode())
    frame: pd.DataFrame = rows.to_pandas(ignore_metadata=True)
    if "user_id" in frame:
        frame["raw_user_id"] = _only(frame["user_id"], lambda user_id: not PSEUDONYM.fullmatch(user_id))
    if "item_id" in frame:
        known = set(catalog["item_id"].to_pylist())
        frame["unknown_item_id"] = _only(frame["item_id"], lambda item_id: item_id not in known)
    return _with_ratio(frame, catalog)


def _only(column: pd.Series[str], wanted: Callable[[str], bool]) -> pd.Series[Any]:
    """A categorical column with its other values made null."""
    return column.astype("category").cat.set_categories([value for value in column.dropna().unique() if wanted(str(value))])


def catalog_frame(items: pa.Table, known: pa.Table) -> pd.DataFrame:
    """Items as the suite `catalog` sees them, with `price_to_catalogue` against the catalogue known before."""
    frame: pd.DataFrame = items.to_pandas(ignore_metadata=True)
    return _with_ratio(frame, known)


def parameters(limits: Ingest, start: datetime, end: datetime, versions: Sequence[DatasetVersion]) -> dict[str, Any]:
    """The suites' parameters for a batch of [start, end), after the dataset versions so far (oldest first)."""
    low, high = expected_rows(versions, (end - start) / DAY, limits.volume_ratio)
    return {
        "interval_start": start,
        "latest": end + timedelta(minutes=limits.clock_skew_minutes),
        "min_rows": low,
        "max_rows": high,
        "max_price": limits.max_price,
        "lowest_price": -limits.max_price,
    }


def expected_rows(versions: Sequence[DatasetVersion], days: float, ratio: tuple[float, float]) -> tuple[int, int]:
    """(fewest, most) rows for that many days, from the median rows a day of the newest versions; (1, 10¹²) without any."""
    recent = [v for v in versions if v.added_events > 0 and v.interval_end > v.interval_start][-VERSIONS_COMPARED:]
    if not recent:
        return 1, 10**12
    a_day = statistics.median(v.added_events / ((v.interval_end - v.interval_start) / DAY) for v in recent)
    days = max(days, 1.0)
    return max(1, int(a_day * days * ratio[0])), int(a_day * days * ratio[1]) + 1


def _with_ratio(frame: pd.DataFrame, catalog: pa.Table) -> pd.DataFrame:
    """The frame with `price_to_catalogue`; without, where no row has both prices: there is nothing to compare."""
    if not {"item_id", "price"} <= set(frame.columns):
        return frame
    ratio = _ratio(frame, catalog)
    return frame.assign(price_to_catalogue=ratio) if ratio.notna().any() else frame


def _ratio(frame: pd.DataFrame, catalog: pa.Table) -> pd.Series[float]:
    """Price over the catalogue's price; null where either is missing or zero."""
    import pandas as pd

    known = catalog.select(["item_id", "price"]).to_pandas().set_index("item_id")["price"]
    listed = frame["item_id"].map(known[known > 0]).astype(float)
    price = pd.to_numeric(frame["price"], errors="coerce")
    ratio: pd.Series[float] = (price.where(price > 0) / listed).astype(float)
    return ratio


def merge_catalogs(known: pa.Table, new: pa.Table) -> pa.Table:
    """Both catalogues as one by item id: a new row replaces the known one, but the earliest `available_from` stays."""
    import pyarrow as pa

    both = pa.concat_tables([known.cast(catalog_schema()), new.select(catalog_schema().names).cast(catalog_schema())])
    frame = both.to_pandas()
    earliest = frame.groupby("item_id")["available_from"].min()
    newest = frame.drop_duplicates("item_id", keep="last").sort_values("item_id")
    newest = newest.assign(available_from=newest["item_id"].map(earliest))
    return pa.Table.from_pandas(newest, schema=catalog_schema(), preserve_index=False)
