"""Online Retail as a stream of events: hand-made lines, and the real ones where ENDCAP_DATA_DIR has them."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from endcap import contracts
from endcap.data import publishers
from endcap.data.cleaning import clean
from endcap.data.privacy import pseudonymise
from endcap.data.shops import OnlineRetail, open_online_retail
from endcap.errors import InputError, ServiceUnavailable

KEY = b"k" * 32
DATA = Path(os.environ.get("ENDCAP_DATA_DIR", "")).resolve() if os.environ.get("ENDCAP_DATA_DIR") else None
LINES = [
    ("536365", "85123A", " WHITE HEART ", 6, "2010-12-01 08:26", 2.55, 17850.0, "United Kingdom"),
    ("536365", "85123A", "WHITE HEART", 2, "2010-12-01 08:26", 2.65, 17850.0, "United Kingdom"),
    ("536366", "85123A", "damaged", 1, "2010-12-02 09:00", 0.0, None, "United Kingdom"),
    ("536367", "22423", "CAKESTAND", 1, "2010-12-03 09:00", 12.75, 12583.0, "France"),
    ("C536368", "85123A", "WHITE HEART", -6, "2010-12-04 09:00", 2.55, 17850.0, "United Kingdom"),
    ("536369", "85123A", "RED HEART", 1, "2010-12-08 09:00", 9.95, 17850.0, "United Kingdom"),
    ("536370", "23843", None, 1, "2010-12-08 10:00", 0.0, None, "EIRE"),
]


def lines() -> pd.DataFrame:
    frame = pd.DataFrame(LINES, columns=publishers.ONLINE_RETAIL_COLUMNS)
    return frame.assign(InvoiceDate=pd.to_datetime(frame["InvoiceDate"]).astype("datetime64[us]"))


def day(number: int) -> datetime:
    return datetime(2010, 12, number, tzinfo=UTC)


def test_lines_become_events_with_stable_ids() -> None:
    shop = OnlineRetail(lines(), KEY)
    events, _ = shop.period(day(1), day(5))
    assert events.schema.equals(contracts.event_schema())
    assert events["event_id"].to_pylist() == ["536365-1", "536365-2", "536366-1", "536367-1", "C536368-1"]
    assert events["user_id"].to_pylist()[1:3] == [pseudonymise("17850", KEY), None]
    assert events["quantity"].to_pylist()[-1] == -6
    assert (shop.start, shop.end) == (day(1), day(9))
    later, _ = shop.period(day(5), day(9))
    assert later["event_id"].to_pylist() == ["536369-1", "536370-1"]


def test_the_catalogue_knows_nothing_of_the_future() -> None:
    _, catalog = OnlineRetail(lines(), KEY).period(day(1), day(5))
    hearts, stand = sorted(catalog.to_pylist(), key=lambda row: row["item_id"], reverse=True)
    assert (hearts["item_id"], hearts["title"], stand["title"]) == ("85123A", "WHITE HEART", "CAKESTAND")
    assert hearts["price"] == pytest.approx(2.55)  # the median; a free "damaged" line does not count
    assert hearts["available_from"] == datetime(2010, 12, 1, 8, 26, tzinfo=UTC)


def test_a_later_catalogue_has_the_period_s_named_items_and_their_first_day() -> None:
    _, catalog = OnlineRetail(lines(), KEY).period(day(5), day(9))
    (hearts,) = catalog.to_pylist()
    assert hearts["available_from"] == datetime(2010, 12, 1, 8, 26, tzinfo=UTC)


def test_raw_lines_keep_the_shop_s_own_ids() -> None:
    frame = OnlineRetail(lines(), KEY).lines
    assert frame["user_id"].tolist()[:3] == ["17850", "17850", None]
    assert frame["time"].is_monotonic_increasing


def test_the_publisher_s_workbook_is_read() -> None:
    shared = ["InvoiceNo", *publishers.ONLINE_RETAIL_COLUMNS[1:], "C536368", "A & B", "France"]
    head = "".join(f'<c r="{chr(65 + i)}1" t="s"><v>{i}</v></c>' for i in range(8))
    row = '<c r="A2" t="s"><v>8</v></c><c r="B2"><v>22423</v></c><c r="C2" t="s"><v>9</v></c><c r="D2"><v>-6</v></c>'
    row += '<c r="E2"><v>40513.351388888892</v></c><c r="F2"><v>2.55</v></c><c r="H2" t="s"><v>10</v></c>'
    name = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    texts = "".join(f"<si><t>{text.replace('&', '&amp;')}</t></si>" for text in shared)
    book = io.BytesIO()
    with zipfile.ZipFile(book, "w") as archive:
        archive.writestr("xl/sharedStrings.xml", f'<sst xmlns="{name}">{texts}</sst>')
        sheet = f'<worksheet xmlns="{name}"><sheetData><row>{head}</row><row>{row}</row></sheetData></worksheet>'
        archive.writestr("xl/worksheets/sheet1.xml", sheet)
    frame = publishers.read_online_retail_workbook(book)
    (line,) = frame.to_dict("records")
    assert (line["InvoiceNo"], line["StockCode"], line["Description"], line["Quantity"]) == ("C536368", "22423", "A & B", -6)
    assert line["InvoiceDate"] == pd.Timestamp("2010-12-01 08:26")
    assert pd.isna(line["CustomerID"])


def test_a_file_of_one_s_own_is_taken_with_a_warning_and_a_download_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "online_retail").mkdir()
    lines().assign(more=1).to_parquet(tmp_path / "online_retail" / "online_retail.parquet")
    assert len(open_online_retail(tmp_path, tmp_path / "cache", KEY).lines) == len(LINES)
    assert "not the published Online Retail data" in caplog.text
    (tmp_path / "cache").mkdir()
    lines().to_parquet(tmp_path / "cache" / "online_retail.parquet")
    with pytest.raises(InputError, match="checksum differs"):
        open_online_retail(None, tmp_path / "cache", KEY)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.drop(columns="StockCode"), "StockCode: the file has no such column"),
        (lambda f: f.assign(Quantity=f["Quantity"].astype(str)), "Quantity.*has another type"),
        (lambda f: f.assign(InvoiceDate=f["InvoiceDate"].astype(str)), "InvoiceDate.*has another type"),
        (lambda f: f.assign(UnitPrice=None), "UnitPrice.*has another type"),
        (lambda f: f.head(0), "has no lines"),
    ],
)
def test_a_file_of_one_s_own_must_have_the_columns(
    tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], words: str
) -> None:
    (tmp_path / "online_retail").mkdir()
    change(lines()).to_parquet(tmp_path / "online_retail" / "online_retail.parquet")
    with pytest.raises(InputError, match=words):
        open_online_retail(tmp_path, tmp_path / "cache", KEY)


def test_no_data_and_no_network_says_where_to_put_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishers, "ONLINE_RETAIL_URL", "http://127.0.0.1:1/online+retail.zip")
    with pytest.raises(ServiceUnavailable, match="ENDCAP_DATA_DIR"):
        open_online_retail(None, tmp_path, KEY)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(DATA is None, reason="ENDCAP_DATA_DIR is not set: the real shop's file is never in the repository")
def test_the_real_shop_keeps_the_known_number_of_purchases(tmp_path: Path) -> None:
    shop = open_online_retail(DATA, tmp_path, KEY)
    events, catalog = shop.period(shop.start, shop.end)
    assert events.num_rows == 541_909
    nothing = contracts.dataset_event_schema().empty_table()
    cleaned = clean(events, catalog, nothing, code_pattern=OnlineRetail.code_pattern)
    assert cleaned.events.num_rows == 396_337
    assert cleaned.counts["missing_customer"] == 135_080
    assert cleaned.events["cancelled_at"].null_count == 396_337 - cleaned.counts["cancellation_paired"]
