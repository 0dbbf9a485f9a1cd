"""Public data sets, fetched from who publishes them and checked by their content. Not here: what the rows mean (`shops.py`)."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING
from xml.etree import ElementTree

from endcap.errors import InputError, ServiceUnavailable

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

ONLINE_RETAIL_URL = "https://archive.ics.uci.edu/static/public/352/online+retail.zip"
ONLINE_RETAIL_COLUMNS = [
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
]
# sha256 of the sorted lines as `content_digest` writes them: the same whether they come as Parquet or as the publisher's xlsx.
ONLINE_RETAIL_DIGEST = "147a256b54993fa1eab83ac6cf597e625b5bc74b159771255787ca7b9613bcda"
TIMEOUT_SECONDS = 60
_SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def online_retail_lines(data_dir: Path | None, cache: Path) -> pd.DataFrame:
    """UCI Online Retail, columns as published: from `data_dir`, else from `cache`, else downloaded into it (541,909 lines).

    What was downloaded must be what was published. A file in `data_dir` is the user's own to choose, such as a sub-sample: it
    must only have the columns, and a content of its own is logged.

    Raises:
        ServiceUnavailable: neither there nor to be downloaded.
        InputError: there, but unreadable, without a column or with another type; or a download of another content.
    """
    import pandas as pd

    own = data_dir / "online_retail" / "online_retail.parquet" if data_dir else None
    path, fetched = (own, False) if own and own.exists() else (cache / "online_retail.parquet", True)
    if not path.exists():
        path = _download(cache)
    try:
        lines = _fitting(pd.read_parquet(path), path)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read ({error})", field=str(path), action="Delete it; it is fetched again.") from error
    if content_digest(lines) != ONLINE_RETAIL_DIGEST:
        if fetched:
            action = "Delete the file; it is downloaded again."
            raise InputError("is not the published Online Retail data (checksum differs)", field=str(path), action=action)
        logger.warning("not the published Online Retail data, taken as it is: %s (%d lines)", path, len(lines))
    return lines


def _fitting(lines: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The published columns, in their order and types. Raises InputError that names the column that does not fit."""
    from pandas.api import types

    if lines.empty:
        raise InputError("has no lines", field=str(path), action="Deliver lines of Online Retail, as published.")
    for name in ONLINE_RETAIL_COLUMNS:
        action = f"{path} must have the published columns: {', '.join(ONLINE_RETAIL_COLUMNS)}."
        if name not in lines.columns:
            raise InputError("the file has no such column", field=name, action=action)
        numeric = types.is_numeric_dtype(lines[name]) and not types.is_bool_dtype(lines[name])
        fits: bool
        if name == "InvoiceDate":
            fits = types.is_datetime64_any_dtype(lines[name]) and not lines[name].hasnans
        elif name in ("Quantity", "UnitPrice"):
            fits = numeric and not lines[name].hasnans
        elif name == "CustomerID":
            fits = numeric or not lines[name].count()
        else:  # codes without a letter may come as whole numbers
            whole = types.is_integer_dtype(lines[name]) or types.infer_dtype(lines[name], skipna=True) in ("string", "empty")
            fits = whole and (name in ("Description", "Country") or not lines[name].hasnans)
        if not fits:
            raise InputError(
                "has another type than published, or gaps", field=name, value=str(lines[name].dtype), action=action
            )
    lines = lines[ONLINE_RETAIL_COLUMNS].reset_index(drop=True)
    dates = lines["InvoiceDate"]
    if dates.dt.tz is not None:
        dates = dates.dt.tz_convert("UTC").dt.tz_localize(None)
    codes = {name: lines[name].astype(str) for name in ("InvoiceNo", "StockCode")}
    return lines.assign(InvoiceDate=dates, CustomerID=lines["CustomerID"].astype(float), **codes)


def content_digest(lines: pd.DataFrame) -> str:
    """sha256 of the sorted lines: invoice, code, quantity, minute, price in thousandths, customer. Not of texts or order."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = (
        lines["InvoiceNo"].astype(str).str.strip(),
        lines["StockCode"].astype(str).str.strip().str.upper(),
        lines["Quantity"].astype("int64"),
        lines["InvoiceDate"].astype("datetime64[us]").astype("int64") // 60_000_000,
        (lines["UnitPrice"] * 1000).round().astype("int64"),
        lines["CustomerID"].fillna(0).astype("int64"),
    )
    texts = pc.binary_join_element_wise(*(pa.array(column).cast(pa.string()) for column in columns), "|")
    return hashlib.sha256("\n".join(texts.take(pc.sort_indices(texts)).to_pylist()).encode()).hexdigest()


def _download(cache: Path) -> Path:
    """The publisher's xlsx as Parquet in `cache`; whole or not at all."""
    target = cache / "online_retail.parquet"
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / "online_retail.zip"
        try:
            with urllib.request.urlopen(ONLINE_RETAIL_URL, timeout=TIMEOUT_SECONDS) as answer, archive.open("wb") as file:
                shutil.copyfileobj(answer, file)
        except OSError as error:
            action = "Set ENDCAP_DATA_DIR to a folder that holds online_retail/online_retail.parquet."
            raise ServiceUnavailable(f"cannot be downloaded ({error})", field=ONLINE_RETAIL_URL, action=action) from error
        try:
            with zipfile.ZipFile(archive) as outer, outer.open("Online Retail.xlsx") as workbook:
                lines = read_online_retail_workbook(workbook)
        except (KeyError, ValueError, zipfile.BadZipFile, ElementTree.ParseError) as error:
            raise InputError(f"is not the expected workbook ({error})", field=ONLINE_RETAIL_URL, action="Try later.") from error
    cache.mkdir(parents=True, exist_ok=True)
    draft = target.with_suffix(f".{os.getpid()}.tmp")
    lines.to_parquet(draft, index=False)
    draft.replace(target)
    return target


def read_online_retail_workbook(file: IO[bytes]) -> pd.DataFrame:
    """The first sheet of the publisher's xlsx with typed columns. A date cell holds days since 1899-12-30."""
    import pandas as pd

    rows = _sheet_rows(file)
    header = next(rows, [])
    if header != ONLINE_RETAIL_COLUMNS:
        raise ValueError(f"its columns are {header}")
    lines = pd.DataFrame(rows, columns=ONLINE_RETAIL_COLUMNS)
    for name in ("Quantity", "UnitPrice", "CustomerID"):
        lines[name] = pd.to_numeric(lines[name])
    days = pd.to_numeric(lines["InvoiceDate"])
    lines["InvoiceDate"] = pd.to_datetime(days, unit="D", origin="1899-12-30").dt.round("s").astype("datetime64[us]")
    lines["Quantity"] = lines["Quantity"].astype("int64")
    return lines


def _sheet_rows(file: IO[bytes]) -> Iterator[list[str | None]]:
    """The rows of the first sheet as texts, one at a time; cells that are not there are None."""
    with zipfile.ZipFile(file) as book:
        with book.open("xl/sharedStrings.xml") as strings:
            shared = ["".join(part.itertext()) for _, part in ElementTree.iterparse(strings) if part.tag == f"{_SHEET}si"]
        with book.open("xl/worksheets/sheet1.xml") as sheet:
            for _, element in ElementTree.iterparse(sheet):
                if element.tag != f"{_SHEET}row":
                    continue
                row: list[str | None] = [None] * len(ONLINE_RETAIL_COLUMNS)
                for cell in element:
                    column = _column_number(cell.attrib["r"])
                    value = cell.findtext(f"{_SHEET}v")
                    if value is not None and column < len(row):
                        row[column] = shared[int(value)] if cell.get("t") == "s" else value
                yield row
                element.clear()


def _column_number(reference: str) -> int:
    """Zero-based column of a cell like `B12`.

    >>> _column_number("A1"), _column_number("AB7")
    (0, 27)
    """
    number = 0
    for letter in reference.rstrip("0123456789"):
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1
