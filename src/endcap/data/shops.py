"""A public shop as a stream of events: UCI Online Retail. The generated shop is `policy/simulator.py`.

A line of an invoice is a purchase; a line of a cancellation (invoice "C…") is a purchase with a negative quantity. All lines
are passed on, also those without customer, price or proper code: to judge them is the work of `validation.py`, `cleaning.py`.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from endcap import contracts
from endcap.data.privacy import pseudonymise_all
from endcap.data.publishers import online_retail_lines

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


class OnlineRetail:
    """The shop, from its lines as published (`publishers.ONLINE_RETAIL_COLUMNS`, in file order) and the pseudonym key."""

    name = "online-retail"
    code_pattern = r"^\d{5}[A-Za-z]*$"  # an item; POST, DOT, BANK CHARGES, gift vouchers … are junk

    def __init__(self, lines: pd.DataFrame, key: bytes) -> None:
        self._lines = _typed(lines)
        self._key = key

    @property
    def start(self) -> datetime:
        """The day of the first line."""
        first: datetime = self._lines["time"].min().floor("D").to_pydatetime()
        return first

    @property
    def end(self) -> datetime:
        """The day after the last line."""
        import pandas as pd

        last: datetime = (self._lines["time"].max().floor("D") + pd.Timedelta(days=1)).to_pydatetime()
        return last

    @property
    def lines(self) -> pd.DataFrame:
        """All lines as events with the shop's own user ids (null: unknown), in order of time."""
        lines = self._lines.drop(columns="title").assign(type=contracts.EventType.PURCHASE.value)
        return lines.sort_values(["time", "event_id"], kind="stable", ignore_index=True)

    def period(self, start: datetime, end: datetime) -> tuple[pa.Table, pa.Table]:
        """(events, catalogue) of start <= time < end, in event_schema and catalog_schema.

        The catalogue holds the items of the period that have a name. Title: the most frequent name of all sold lines before
        `end`; price: the median of their unit prices; available_from: when first seen. Nothing after `end` is used.
        """
        past = self._lines[self._lines["time"] < end]
        lines = past[past["time"] >= start]
        return self._events(lines), _catalog(past[past["item_id"].isin(lines["item_id"].unique())])

    def catalog(self, end: datetime) -> pa.Table:
        """The catalogue alone, of everything before `end`."""
        return _catalog(self._lines[self._lines["time"] < end])

    def _events(self, lines: pd.DataFrame) -> pa.Table:
        import pyarrow as pa

        columns = {
            "event_id": lines["event_id"],
            "type": pa.array([contracts.EventType.PURCHASE.value] * len(lines), pa.string()),
            "user_id": pa.array(pseudonymise_all(lines["user_id"].tolist(), self._key), pa.string()),
            **{name: lines[name] for name in ("item_id", "time", "quantity", "price")},
            "request_id": pa.nulls(len(lines), pa.string()),
            "surface": pa.nulls(len(lines), pa.string()),
            "country": lines["country"],
        }
        schema = contracts.event_schema()
        return pa.table({name: pa.array(columns[name], type=schema.field(name).type) for name in schema.names}, schema=schema)


def open_online_retail(data_dir: Path | None, cache: Path, key: bytes) -> OnlineRetail:
    """The shop from `data_dir`, else from its publisher by way of `cache`. Raises as `online_retail_lines` does."""
    return OnlineRetail(online_retail_lines(data_dir, cache), key)


def _typed(lines: pd.DataFrame) -> pd.DataFrame:
    """Lines with contract names. An event id is `<invoice>-<n-th line of that invoice>`, stable over deliveries."""
    import pandas as pd

    number = lines.groupby("InvoiceNo", sort=False).cumcount() + 1
    customer = lines["CustomerID"].astype("Int64").astype("string").astype(object)
    return pd.DataFrame(
        {
            "event_id": lines["InvoiceNo"].astype(str) + "-" + number.astype(str),
            "user_id": customer.where(lines["CustomerID"].notna(), None),
            "item_id": lines["StockCode"].str.strip(),
            "title": lines["Description"].str.strip(),
            "time": lines["InvoiceDate"].dt.tz_localize("UTC"),
            "quantity": lines["Quantity"].astype(float),
            "price": lines["UnitPrice"].astype(float),
            "country": lines["Country"],
        }
    )


def _catalog(lines: pd.DataFrame) -> pa.Table:
    import pyarrow as pa

    seen = lines.groupby("item_id")["time"].agg(["min", "max"])
    named = lines[(lines["price"] > 0) & lines["title"].notna() & (lines["title"] != "")]
    counts = named.groupby(["item_id", "title"]).size().reset_index(name="lines")
    counts = counts.sort_values(["item_id", "lines", "title"], ascending=[True, False, True])
    titles = counts.drop_duplicates("item_id").set_index("item_id")["title"]
    prices = named.groupby("item_id")["price"].median()
    nothing = pa.nulls(len(titles), pa.string())
    columns = {
        "item_id": titles.index,
        "title": titles,
        **dict.fromkeys(("description", "brand", "category"), nothing),
        "price": prices.loc[titles.index],
        "available_from": seen["min"].loc[titles.index],
        "updated_at": seen["max"].loc[titles.index],
    }
    schema = contracts.catalog_schema()
    return pa.table({name: pa.array(columns[name], type=schema.field(name).type) for name in schema.names}, schema=schema)
