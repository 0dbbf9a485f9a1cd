"""What a batch is checked against: the frame that the suites see and the values of their parameters.

Not here: the suites (`expectations/`) and running them (`validation.py`).
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from endcap.contracts import (
    FIRST_TIME,
    MAX_COUNTRY,
    MAX_ID,
    MAX_QUANTITY,
    UNSTORABLE,
    DatasetVersion,
    EventType,
    catalog_schema,
)
from endcap.sections import Ingest

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

DAY = timedelta(days=1)
VERSIONS_COMPARED = 5
PSEUDONYM = re.compile("[0-9a-f]{16}")
KNOWN_ITEMS = 0.9  # share of events whose item a shop with a catalogue must know
_REPEATED = ("type", "user_id", "item_id", "request_id", "surface", "country", "policy", "model_version")


def event_frame(rows: pa.Table, catalog: pa.Table, code_pattern: str | None = None) -> pd.DataFrame:
    """Events, exposures or interactions as their suite sees them: repeated strings as categories, and derived columns.

    Null unless something is wrong: `raw_user_id` (no pseudonym), `unstorable_item_id` (and `…_event_id`, `…_request_id`,
    `…_country`), `junk_item_id` (not of the shop's `code_pattern`), `unknown_item_id` (not in the catalogue). Checking these
    once a distinct value, or event ids all in one go, is what makes a million rows fast. "given" or "missing", null for what is
    no purchase: `purchase_price`, `purchase_quantity`. "kept" or "dropped", null where the shopper is unknown: `cleaning`.
    `price_to_catalogue` is the price over the catalogue's.
    """
    import pyarrow as pa

    for name in set(_REPEATED) & set(rows.column_names):
        column = rows[name]
        if pa.types.is_string(column.type):
            rows = rows.set_column(rows.column_names.index(name), name, column.dictionary_encode())
    frame: pd.DataFrame = rows.to_pandas(ignore_metadata=True)
    if "user_id" in frame:
        frame["raw_user_id"] = _only(frame["user_id"], lambda user_id: not PSEUDONYM.fullmatch(user_id))
    for name in {"event_id", "item_id", "request_id"} & set(frame.columns):
        frame[f"unstorable_{name}"] = _unstorable(frame[name], MAX_ID)
    if "country" in frame:
        frame["unstorable_country"] = _unstorable(frame["country"], MAX_COUNTRY, blank=True)
    if "item_id" in frame:
        known = set(catalog["item_id"].to_pylist())
        frame["unknown_item_id"] = _only(frame["item_id"], lambda item_id: item_id not in known)
        if code_pattern is not None:
            proper = re.compile(code_pattern)
            frame["junk_item_id"] = _only(frame["item_id"], lambda item_id: not proper.fullmatch(item_id))
    return _with_ratio(_with_shares(frame, is_listed(catalog)), catalog)


def _unstorable(column: pd.Series[str], longest: int, *, blank: bool = False) -> pd.Series[Any]:
    """The column's values that the service's door would not take, else null; `blank`: whether it may be blank.

    Of a categorical column each distinct value is looked at once.
    """
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    categorical = isinstance(column.dtype, pd.CategoricalDtype)
    texts = pa.array(column.cat.categories if categorical else column, type=pa.string(), from_pandas=True)
    length = pc.utf8_length(texts)
    wrong = pc.or_(pc.greater(length, longest), pc.match_substring_regex(texts, UNSTORABLE))
    if not blank:
        wrong = pc.or_(wrong, pc.or_(pc.equal(length, 0), pc.utf8_is_space(texts)))
    found = np.asarray(pc.fill_null(wrong, False))
    if categorical:
        return column.cat.set_categories(column.cat.categories[found])
    codes = np.full(len(column), -1, np.int32)
    codes[found], values = pd.factorize(column[found])
    return pd.Series(pd.Categorical.from_codes(codes, categories=pd.Index(values)), index=column.index)


def _with_shares(frame: pd.DataFrame, listed: bool) -> pd.DataFrame:
    """The frame with what is asked of a share of its purchases, or of its events of known shoppers."""
    if not {"type", "user_id", "item_id"} <= set(frame.columns):
        return frame
    buys = frame["type"] == EventType.PURCHASE.value
    dropped = frame["unknown_item_id"].notna() & listed  # else cleaning derives the item from its events
    if "junk_item_id" in frame:
        dropped |= frame["junk_item_id"].notna()
    for name in {"price", "quantity"} & set(frame.columns):
        frame[f"purchase_{name}"] = _either("given", "missing", frame[name].notna(), where=buys)
    if "price" in frame:
        dropped |= buys & ~(frame["price"] > 0)
    if "quantity" in frame:
        dropped |= frame["quantity"] == 0
        dropped &= ~(buys & (frame["quantity"] < 0))  # returns have rules of their own
    return frame.assign(cleaning=_either("dropped", "kept", dropped, where=frame["user_id"].notna()))


def _either(one: str, other: str, rows: pd.Series[bool], where: pd.Series[bool]) -> pd.Series[Any]:
    """`one` in `rows`, else `other`. Not numbers with a mean: Great Expectations would look at each of them in Python."""
    import numpy as np
    import pandas as pd

    codes = np.where(where, rows, -1).astype(np.int8)
    return pd.Series(pd.Categorical.from_codes(codes, categories=pd.Index([other, one])), index=rows.index)


def _only(column: pd.Series[str], wanted: Callable[[str], bool]) -> pd.Series[Any]:
    """A categorical column with its other values made null."""
    return column.astype("category").cat.set_categories([value for value in column.dropna().unique() if wanted(str(value))])


def catalog_frame(items: pa.Table, known: pa.Table) -> pd.DataFrame:
    """Items as the suite `catalog` sees them, with `price_to_catalogue` against the catalogue known before."""
    frame: pd.DataFrame = items.to_pandas(ignore_metadata=True)
    if "item_id" in frame:
        frame["unstorable_item_id"] = _unstorable(frame["item_id"], MAX_ID)
    return _with_ratio(frame, known)


def parameters(
    limits: Ingest, start: datetime, end: datetime, versions: Sequence[DatasetVersion], *, listed: bool = True
) -> dict[str, Any]:
    """The suites' parameters for a batch of [start, end), after the dataset versions so far (oldest first).

    `listed`: the shop has delivered a catalogue, so that an item that it lacks is a mistake.
    """
    low, high = expected_rows(versions, (end - start) / DAY, limits.volume_ratio)
    return {
        "interval_start": start,
        "earliest": FIRST_TIME,
        "latest": end + timedelta(minutes=limits.clock_skew_minutes),
        "min_rows": low,
        "max_rows": high,
        "max_quantity": MAX_QUANTITY,
        "lowest_quantity": -MAX_QUANTITY,
        "max_price": limits.max_price,
        "lowest_price": -limits.max_price,
        "min_kept_share": 1 - limits.max_dropped_share,
        "min_known_items": KNOWN_ITEMS if listed else 0.0,
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


def is_listed(catalog: pa.Table) -> bool:
    """Whether the shop has delivered a catalogue: some item says more than what `items_of` derives from events."""
    return any(title != item_id for item_id, title in zip(*(catalog[n].to_pylist() for n in ("item_id", "title")), strict=True))


def items_of(events: pa.Table) -> pa.Table:
    """A catalogue (catalog_schema) out of events: title = item id, price = the median paid, available from when first seen."""
    import pandas as pd
    import pyarrow as pa

    if not {"item_id", "time"} <= set(events.column_names):
        return catalog_schema().empty_table()
    frame = events.select([n for n in ("item_id", "time", "price") if n in events.column_names]).to_pandas()
    seen = frame.dropna(subset=["item_id", "time"]).groupby("item_id")["time"].agg(["min", "max"])
    prices = frame[frame["price"] > 0].groupby("item_id")["price"].median() if "price" in frame else pd.Series(dtype=float)
    items = pd.DataFrame({"item_id": seen.index, "title": seen.index, "price": prices.reindex(seen.index).to_numpy()})
    times = {"available_from": seen["min"].to_numpy(), "updated_at": seen["max"].to_numpy()}
    items = items.assign(**{name: pd.to_datetime(time, utc=True) for name, time in times.items()})
    return pa.Table.from_pandas(items.reindex(columns=catalog_schema().names), schema=catalog_schema(), preserve_index=False)


def known_items(catalog: pa.Table, events: pa.Table | None) -> pa.Table:
    """The catalogue; while the shop has delivered none, with the items of the events that it does not hold yet."""
    import pyarrow.compute as pc

    if events is None or is_listed(catalog):
        return catalog
    derived = items_of(events)
    return merge_catalogs(
        catalog, derived.filter(pc.invert(pc.is_in(derived["item_id"], value_set=catalog["item_id"].combine_chunks())))
    )
