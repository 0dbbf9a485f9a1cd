"""From validated events to dataset events: every rule has a name and a count; what it drops stays in the batch's own files.

The rules apply to purchases and returns in the order of `RULES`; each row is counted by the first that takes it. Other event
types pass, if the shopper and the item are known. Not here: whether a batch may be used at all (`validation.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from endcap import contracts

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

RULES = {
    "missing_customer": "dropped: the shop did not know who it was",
    "junk_code": "dropped: postage, fees, samples; not an item of the catalogue",
    "unknown_item": "dropped: the catalogue has no such item",
    "cancellation_paired": "a return of a whole purchase: dropped, and the purchase is marked as cancelled",
    "cancellation_partial": "a return of a part of a purchase: dropped, the purchase stays",
    "cancellation_unpaired": "a return whose purchase is not known: dropped",
    "zero_price": "dropped: given away or booked without a price",
    "non_positive_quantity": "dropped: neither a purchase nor a return",
    "already_known": "dropped: the event came with an earlier batch",
    "duplicate_line": "kept: the same item again in the same order (reported only)",
}


@dataclass(frozen=True, slots=True)
class Cleaned:
    """`events` (dataset_event_schema) by time; `catalog` without junk; `cancelled`: earlier purchases that this batch undid
    (event_id, time of the purchase, cancelled_at); `counts`: rule → rows.
    """

    events: pa.Table
    catalog: pa.Table
    cancelled: pa.Table
    counts: dict[str, int]


def clean(events: pa.Table, catalog: pa.Table, known_purchases: pa.Table, *, code_pattern: str | None) -> Cleaned:
    """Apply the rules.

    Args:
        events: event_schema, validated.
        catalog: catalog_schema, all items known up to and with this batch.
        known_purchases: dataset_event_schema rows of earlier versions that a return may undo; others are ignored.
        code_pattern: regular expression that a proper item code matches as a whole; None: every code is proper.
    """

    frame = events.to_pandas()
    counts = dict.fromkeys(RULES, 0)
    items = _proper(catalog, code_pattern)
    frame = _drop(frame, frame["user_id"].isna(), "missing_customer", counts)
    frame = _drop(frame, ~_matching(frame["item_id"], code_pattern), "junk_code", counts)
    frame = _drop(frame, ~frame["item_id"].isin(items["item_id"].to_pandas()), "unknown_item", counts)
    buys = frame["type"] == contracts.EventType.PURCHASE.value
    returns = frame[buys & (frame["quantity"] < 0)]
    frame = frame.drop(returns.index)
    buys = frame["type"] == contracts.EventType.PURCHASE.value
    frame = _drop(frame, buys & ~(frame["price"] > 0), "zero_price", counts)
    buys = frame["type"] == contracts.EventType.PURCHASE.value
    frame = _drop(frame, (buys & ~(frame["quantity"] > 0)) | (frame["quantity"] <= 0), "non_positive_quantity", counts)
    buys = frame["type"] == contracts.EventType.PURCHASE.value

    same = ["user_id", "item_id", "time", "quantity", "price"]
    counts["duplicate_line"] = int(frame.loc[buys, same].duplicated().sum())
    undone = _pair(returns, frame[buys], _of_shoppers(known_purchases, returns["user_id"]), counts)
    frame["cancelled_at"] = frame["event_id"].map(undone)
    return Cleaned(_dataset_events(frame), items, _cancelled_before(known_purchases, undone), counts)


def _drop(frame: pd.DataFrame, rows: pd.Series[bool], rule: str, counts: dict[str, int]) -> pd.DataFrame:
    counts[rule] = int(rows.sum())
    return frame[~rows]


def _proper(catalog: pa.Table, code_pattern: str | None) -> pa.Table:
    return catalog.filter(_matching(catalog["item_id"].to_pandas(), code_pattern).to_numpy(dtype=bool))


def _matching(codes: pd.Series[str], code_pattern: str | None) -> pd.Series[bool]:
    """Whether each code matches as a whole; each distinct code is looked at once."""
    if code_pattern is None:
        return codes.notna()
    distinct = codes.drop_duplicates()
    return codes.isin(distinct[distinct.str.fullmatch(code_pattern).astype(bool)])


def _of_shoppers(purchases: pa.Table, user_ids: pd.Series[str]) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array(user_ids.unique().tolist(), pa.string())
    theirs: pd.DataFrame = purchases.filter(pc.is_in(purchases["user_id"], value_set=wanted)).to_pandas()
    return theirs


def _pair(returns: pd.DataFrame, bought: pd.DataFrame, known: pd.DataFrame, counts: dict[str, int]) -> dict[str, pd.Timestamp]:
    """Which purchases were undone, and when: event_id → time of the return.

    Returns are taken in the order of time. One of quantity -q undoes the shopper's newest standing purchase of q of that item;
    if there is none but one of more than q, it is partial; else it is unpaired.
    """
    import pandas as pd

    key = ["user_id", "item_id"]
    columns = [*key, "event_id", "time", "quantity"]
    standing = known[known["cancelled_at"].isna() & (known["type"] == contracts.EventType.PURCHASE.value)]
    purchases = pd.concat([standing[columns], bought[columns]]).merge(returns[key].drop_duplicates(), on=key)
    by_pair: dict[tuple[str, str], list[tuple[pd.Timestamp, float, str]]] = {}
    for user, item, event_id, time, quantity in purchases.sort_values(["time", "event_id"]).itertuples(index=False):
        by_pair.setdefault((user, item), []).append((time, quantity, event_id))

    undone: dict[str, pd.Timestamp] = {}
    for user, item, time, quantity in returns.sort_values(["time", "event_id"])[[*key, "time", "quantity"]].itertuples(
        index=False
    ):
        before = [p for p in by_pair.get((user, item), []) if p[0] <= time and p[2] not in undone]
        whole = [p for p in before if p[1] == -quantity]
        if whole:
            undone[whole[-1][2]] = time
            counts["cancellation_paired"] += 1
        elif any(p[1] > -quantity for p in before):
            counts["cancellation_partial"] += 1
        else:
            counts["cancellation_unpaired"] += 1
    return undone


def _dataset_events(frame: pd.DataFrame) -> pa.Table:
    import pandas as pd
    import pyarrow as pa

    schema = contracts.dataset_event_schema()
    frame = frame.assign(cancelled_at=pd.to_datetime(frame["cancelled_at"], utc=True)).sort_values(["time", "event_id"])
    return pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False)


def _cancelled_before(known: pa.Table, undone: dict[str, pd.Timestamp]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    schema = contracts.dataset_event_schema()
    rows = known.select(["event_id", "time"])
    rows = rows.filter(pc.is_in(rows["event_id"], value_set=pa.array(list(undone), pa.string())))
    times = [undone[event_id] for event_id in rows["event_id"].to_pylist()]
    return rows.append_column("cancelled_at", pa.array(times, schema.field("cancelled_at").type))
