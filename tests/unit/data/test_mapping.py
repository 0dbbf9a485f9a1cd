"""A shop's own files: what is read, and what is said when it cannot be."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endcap import contracts
from endcap.data.mapping import apply_mapping
from endcap.data.mapping_file import Mapping, load_mapping
from endcap.data.privacy import pseudonymise
from endcap.data.table_files import MAX_LINE_BYTES, read_table
from endcap.errors import InputError

KEY = b"k" * 32
EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
COLUMNS: dict[str, Any] = {
    "event_id": "id",
    "item_id": "sku",
    "time": "at",
    "user_id": "who",
    "quantity": "qty",
    "price": "price",
}
LINES = "id,sku,at,who,qty,price\n1,00123,2011-11-07T10:00:00,17850,2,1.5\n2,85123A,2011-11-07T11:00:00+01:00,,-1,\n"


def mapping(**changes: Any) -> Mapping:
    return Mapping.model_validate({"columns": COLUMNS, "constants": {"type": "purchase"}} | changes)


def csv(tmp_path: Path, content: str | bytes, name: str = "events.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_csv_becomes_contract_rows(tmp_path: Path) -> None:
    mapped = apply_mapping(read_table(csv(tmp_path, LINES)), mapping(), KEY)
    assert mapped.problems == []
    assert [(f.name, f.type) for f in mapped.table.schema] == [(f.name, f.type) for f in contracts.event_schema()]
    first, second = mapped.table.to_pylist()
    assert first["item_id"] == "00123"  # a code keeps its zeros
    assert first["user_id"] == pseudonymise("17850", KEY)
    assert first["time"] == datetime(2011, 11, 7, 10, tzinfo=UTC)
    assert (second["user_id"], second["quantity"], second["price"]) == (None, -1.0, None)


def test_a_parquet_with_float_ids_gives_the_same_pseudonyms(tmp_path: Path) -> None:
    table = pa.table({"id": [1], "sku": ["a"], "at": ["2011-11-07"], "who": [17850.0], "qty": [1], "price": [float("inf")]})
    pq.write_table(table, tmp_path / "events.parquet")
    (row,) = apply_mapping(read_table(tmp_path / "events.parquet"), mapping(), KEY).table.to_pylist()
    assert row["user_id"] == pseudonymise("17850", KEY)
    assert row["price"] == float("inf")  # for validation to find
    assert row["time"] == datetime(2011, 11, 7, tzinfo=UTC)


def test_the_shop_s_words_numbers_and_clock(tmp_path: Path) -> None:
    text = "id;action;customer;sku;happened_at;qty;unit_price\n1;order;ü;a;07.07.2025 10:00:00;1;1.234,50\n"
    mapped = apply_mapping(
        read_table(csv(tmp_path, text.encode("cp1252")), separator=";", encoding="cp1252"),
        load_mapping(EXAMPLES / "mapping_events.yaml"),
        KEY,
    )
    (row,) = mapped.table.to_pylist()
    assert (row["type"], row["price"]) == ("purchase", 1234.5)
    assert row["time"] == datetime(2025, 7, 7, 8, tzinfo=UTC)  # Berlin's summer
    assert row["user_id"] == pseudonymise("ü", KEY)


def test_joined_and_numbered_ids_are_unique_and_stable(tmp_path: Path) -> None:
    text = "InvoiceNo,StockCode,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
    text += "".join(f"{number},a,1,2011-01-01 10:00:00,1,1,EIRE\n" for number in (536365, 536365, "C536366"))
    table = apply_mapping(read_table(csv(tmp_path, text)), load_mapping(EXAMPLES / "mapping_online_retail.yaml"), KEY).table
    assert table["event_id"].to_pylist() == ["536365-1", "536365-2", "C536366-1"]


def test_a_catalogue_without_dates_is_listed_now(tmp_path: Path) -> None:
    path = csv(tmp_path, "sku,name\na,Teapot\n")
    columns = {"item_id": "sku", "title": "name"}
    (row,) = apply_mapping(read_table(path), Mapping(kind="catalog", columns=dict(columns)), KEY).table.to_pylist()
    assert row["title"] == "Teapot"
    assert abs((row["available_from"] - datetime.now(UTC)).total_seconds()) < 60


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("mapping_*.yaml")))
def test_the_examples_load(name: str) -> None:
    assert load_mapping(EXAMPLES / name).columns


@pytest.mark.parametrize(
    ("cell", "column"), [("a dozen", "quantity"), ("nan", "price"), ("yesterday", "time"), ("2011-13-41", "time")]
)
def test_what_cannot_be_read_is_named_and_kept_aside(tmp_path: Path, cell: str, column: str) -> None:
    values = {"id": "3", "sku": "a", "at": "2011-11-07", "who": "1", "qty": "1", "price": "1"} | {str(COLUMNS[column]): cell}
    mapped = apply_mapping(read_table(csv(tmp_path, LINES + ",".join(values.values()) + "\n")), mapping(), KEY)
    assert mapped.table["unreadable"].to_pylist() == [None, None, f"{column}={cell!r}"]
    assert mapped.table[column].to_pylist()[2] is None
    assert "first in row 3" in mapped.problems[0]


def test_a_nan_in_parquet_is_no_missing_price(tmp_path: Path) -> None:
    price = pa.array([float("nan"), None, 1.0], from_pandas=False)
    table = pa.table({"id": ["1", "2", "3"], "sku": ["a"] * 3, "at": ["2011-11-07"] * 3, "who": ["1"] * 3, "qty": [1] * 3})
    mapped = apply_mapping(table.append_column("price", price), mapping(), KEY)
    assert mapped.table["unreadable"].to_pylist() == ["price=nan", None, None]


def test_a_missing_column_names_the_nearest(tmp_path: Path) -> None:
    table = read_table(csv(tmp_path, LINES.replace("qty", "qtty")))
    with pytest.raises(InputError, match=r"qty: .*quantity.*Did you mean `qtty`"):
        apply_mapping(table, mapping(), KEY)
    mapped = apply_mapping(table, mapping(), KEY, strict=False)
    assert "quantity" not in mapped.table.column_names
    assert "no column 'qty'" in mapped.problems[0]


BROKEN = {
    "empty": (b"", "0 bytes"),
    "wrong encoding": ("id,sku\n1,Käse\n".encode("cp1252"), "is not utf-8 text"),
    "utf-16": ("id,sku\n1,a\n".encode("utf-16"), "zero bytes"),
    "ragged": (b"id,sku\n1,a\n2\n", "no regular table"),
    "cut in a quote": (b'id,sku\n1,"a\n' + b"2,b\n" * 5, "a quote that does not end"),
    "only newlines": (b"\n" * 10, "has no rows"),
    "a header without end": (b"id,sku", "has no rows"),
    "a column twice": (b"id,price,price\n1,2,3\n", "two columns of one name; got 'price'"),
    "a line of 20 MiB": (b"id,sku\n1," + b"x" * (20 * 2**20) + b"\n2,b\n", "a line that is too long"),
}
SOUND = {
    "a blank first line": (b"\nsku,n\n00123,1\n", "sku", "utf-8"),
    "a separator in a quoted name": (b'"sku, code",n\n00123,1\n', "sku, code", "utf-8"),
    "blanks around a name": (b"n, sku \n1,00123\n", " sku ", "utf-8"),
    "a quote in a name": (b'"sku ""new""",n\n00123,1\n', 'sku "new"', "utf-8"),
    "a byte order mark": (b"\xef\xbb\xbfsku,n\n00123,1\n", "sku", "utf-8"),
    "names that are missing": (b"sku,,\n00123,,\n", "sku", "utf-8"),
    "utf-16 with a byte of a quote": ("sku,n\n00123,\u2200\n".encode("utf-16"), "sku", "utf-16"),
    "utf-16 of several blocks": (("sku,n\n" + '00123,"ž🐎\u2200\n"\n' * 200_000).encode("utf-16"), "sku", "utf-16"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_csv_says_what_is_wrong(tmp_path: Path, case: str) -> None:
    content, words = BROKEN[case]
    with pytest.raises(InputError, match=words):
        read_table(csv(tmp_path, content))


@pytest.mark.parametrize("case", SOUND)
def test_a_code_keeps_its_zeros_under_any_header(tmp_path: Path, case: str) -> None:
    content, name, encoding = SOUND[case]
    column = read_table(csv(tmp_path, content), encoding=encoding)[name]
    assert column.type == pa.string()
    assert set(column.to_pylist()) == {"00123"}


def test_a_line_at_the_limit_is_read(tmp_path: Path) -> None:
    row = b"1," + b"x" * (MAX_LINE_BYTES - 2) + b"\n"
    assert read_table(csv(tmp_path, b"id,sku\n" + row * 2)).num_rows == 2
    with pytest.raises(InputError, match="too long"):
        read_table(csv(tmp_path, b"id,sku\n" + row.replace(b"\n", b"x\n")))


def test_a_parquet_with_a_column_twice_names_it(tmp_path: Path) -> None:
    pq.write_table(pa.table([[1], [2]], names=["price", "price"]), tmp_path / "events.parquet")
    with pytest.raises(InputError, match="two columns of one name; got 'price'"):
        read_table(tmp_path / "events.parquet")


BYTES: list[Any] = [pa.binary(), pa.large_binary(), pa.binary(3), pa.dictionary(pa.int32(), pa.binary())]


@pytest.mark.parametrize("kind", BYTES, ids=str)
def test_bytes_in_parquet_are_text_or_refused(tmp_path: Path, kind: pa.DataType) -> None:
    for code in (b"012", b"\xff12"):
        columns = {"id": ["1"], "at": ["2011-11-07"], "who": ["1"], "qty": [1], "price": [1], "picture": [b"\xff"]}
        table = pa.table(columns).append_column("sku", pa.array([code]).cast(kind))
        pq.write_table(table, tmp_path / "events.parquet")
        read = read_table(tmp_path / "events.parquet")
        if code == b"012":
            assert apply_mapping(read, mapping(), KEY).table["item_id"].to_pylist() == ["012"]
        else:
            with pytest.raises(InputError, match="sku: the file's column is no UTF-8 text"):
                apply_mapping(read, mapping(), KEY)


def test_a_text_column_that_is_no_text_is_refused() -> None:
    broken = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers())
    with pytest.raises(InputError, match="sku: the file's column is no UTF-8 text"):
        apply_mapping(pa.table({"sku": broken}), mapping(), KEY, strict=False)


TEN = datetime(2024, 1, 1, 10, tzinfo=UTC)
TIMES = {
    "PostgreSQL's": ("ISO8601", ["2024-01-01 10:00:00+00", "2024-01-01 12:00:00.000+02"], [TEN, TEN]),
    "with and without a zone": ("ISO8601", ["2024-01-01 10:00:00+00", "2024-01-01 05:00:00"], [TEN, TEN]),
    "a plain date": ("ISO8601", ["2024-01-01", "2024-01-01 10:00:00+00"], [datetime(2024, 1, 1, 5, tzinfo=UTC), TEN]),
    "an hour alone": ("ISO8601", ["2024-01-01 12+02", "20240101T1000-00", "2024-01-01 05"], [TEN, TEN, TEN]),
    "an offset in the pattern": ("%d.%m.%Y %H %z", ["01.01.2024 12 +02", "01.01.2024 12 +0200"], [None, TEN]),
    "a pattern with a dash": ("%H %d-%m-%y", ["05 01-01-24"], [TEN]),
}


@pytest.mark.parametrize("case", TIMES)
def test_a_time_is_of_its_own_zone_or_of_the_mapping_s(case: str) -> None:
    form, texts, expected = TIMES[case]
    table = pa.table({name: ["1"] * len(texts) for name in COLUMNS.values()} | {"at": texts})
    shop = mapping(time={"format": form, "zone": "-05:00"})
    assert apply_mapping(table, shop, KEY).table["time"].to_pylist() == expected


COMMA = mapping(csv={"decimal": ","})
DECIMALS = {
    "2,50": 2.5,
    " 2,50 ": 2.5,
    "-1.234.567,5": -1234567.5,
    "1.250": 1250.0,
    "1250": 1250.0,
    "2.50": None,
    "0.250": None,
    "1,234.50": None,
    "1.2345": None,
    "12.34,5": None,
}


def test_a_decimal_comma_makes_no_dot_vanish() -> None:
    count = len(DECIMALS)
    columns = {name: ["1"] * count for name in COLUMNS.values()} | {"at": ["2011-11-07"] * count, "price": list(DECIMALS)}
    mapped = apply_mapping(pa.table(columns), COMMA, KEY).table
    assert mapped["price"].to_pylist() == list(DECIMALS.values())
    bad = [f"price={text!r}" if number is None else None for text, number in DECIMALS.items()]
    assert mapped["unreadable"].to_pylist() == bad


def test_a_number_that_is_no_text_has_no_decimal_comma() -> None:
    columns: dict[str, Any] = {name: ["1"] for name in COLUMNS.values()}
    table = pa.table(columns | {"at": ["2011-11-07"], "price": [Decimal("2.500")]})
    assert apply_mapping(table, COMMA, KEY).table["price"].to_pylist() == [2.5]


def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "one_line.csv"
    with path.open("wb") as file:
        file.write(b"id,sku\n1,")
        file.seek(1024**3)  # a gigabyte, sparse on disk
        file.write(b"\n")
    before = pa.total_allocated_bytes()
    with pytest.raises(InputError, match=r"too long|zero bytes"):
        read_table(path)
    assert pa.total_allocated_bytes() - before < 8 * MAX_LINE_BYTES
    with path.open("wb") as file:
        file.write(b"id,sku\n1," + b"x" * (3 * MAX_LINE_BYTES) + b"\n")
    with pytest.raises(InputError, match="too long"):
        read_table(path)


def test_a_truncated_parquet_or_gzip_is_refused(tmp_path: Path) -> None:
    import gzip

    pq.write_table(pa.table({"a": list(range(1000))}), tmp_path / "whole.parquet")
    cut = (tmp_path / "whole.parquet").read_bytes()[:-100]
    (tmp_path / "cut.parquet").write_bytes(cut)
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(LINES.encode() * 1000)[:-20])
    for name in ("cut.parquet", "cut.csv.gz"):
        with pytest.raises(InputError, match=r"cannot be read .*[dD]eliver it again"):
            read_table(tmp_path / name)


def test_a_file_that_is_not_there_or_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(InputError, match="neither CSV nor Parquet"):
        read_table(csv(tmp_path, "x", "events.xlsx"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("columns: {event_id: id, itm_id: sku}", "itm_id: no column of the contract.*Did you mean `item_id`"),
        ("columns: {event_id: id}", "item_id: not mapped|type: not mapped"),
        ("kolumns: {}", "columns: Field required|kolumns"),
        ("columns: [", "cannot be read"),
        ("kind: orders\ncolumns: {}", "kind: Input should be 'events' or 'catalog'"),
        ("columns: {}\ntime: {zone: Mars/Phobos}", "time.zone: .*no time zone.*got 'Mars/Phobos'"),
        ("columns: {}\ntime: {zone: ''}", "time.zone: .*no time zone"),
        ("columns: {}\ntime: {format: '%q'}", "time.format: .*no strptime pattern.*got '%q'"),
        ("columns: {}\ntime: {format: '%Y %Y'}", "time.format: .*no strptime pattern"),
        ("columns: {}\ntime: {format: YYYY-MM-DD}", "time.format: .*neither ISO8601 nor a strptime pattern"),
        ("columns: {}\ncsv: {separator: §}", "csv.separator: .*ASCII character.*got '§'"),
        ("columns: {}\ncsv: {encoding: utf-99}", "csv.encoding: .*no encoding.*got 'utf-99'"),
        ("columns: {}\ncsv: {encoding: hex}", "csv.encoding: .*no encoding"),
    ],
)
def test_a_wrong_mapping_names_the_key(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        load_mapping(path)
