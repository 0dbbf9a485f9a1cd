"""Reading a shop's own files: CSV (also .gz) and Parquet, with errors that say what is wrong with the file.

Not here: what the columns mean (`mapping.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from endcap.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

MAX_LINE_BYTES = 16 * 1024 * 1024
_PARQUET = (".parquet", ".pq")
_CSV = (".csv", ".csv.gz", ".tsv", ".txt")


def read_table(path: Path, *, separator: str = ",", encoding: str = "utf-8") -> pa.Table:
    """The file's rows. Columns of a CSV are strings (empty: null), so that no code loses its zeros; Parquet keeps its types.

    Raises:
        InputError: missing, empty, truncated, no table, in another encoding, or with a line over 16 MiB.
    """
    name = path.name.lower()
    if not name.endswith(_PARQUET + _CSV):
        raise InputError("is neither CSV nor Parquet", field=str(path), action=f"Known endings: {', '.join(_CSV + _PARQUET)}.")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror})", field=str(path), action="Check the path and its mode."
        ) from error
    if size == 0:
        raise InputError("is empty: 0 bytes", field=str(path), action="Deliver it again; was its writing cut short?")
    return _read_parquet(path) if name.endswith(_PARQUET) else _read_csv(path, separator, encoding)


def _read_parquet(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as file:
            return pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        action = "It is truncated or no Parquet file: deliver it again."
        raise InputError(f"cannot be read ({_first_line(error)})", field=str(path), action=action) from error


def _read_csv(path: Path, separator: str, encoding: str) -> pa.Table:
    import pyarrow as pa
    import pyarrow.csv as pc

    try:
        with pa.input_stream(str(path)) as stream:
            head = stream.read(64 * 1024)
        if b"\0" in head and "16" not in encoding and "32" not in encoding:
            action = "Set csv.encoding in the mapping, e.g. utf-16."
            raise InputError("holds zero bytes: UTF-16 or no text", field=str(path), action=action)
        _check_quotes(path)
        header = head.decode(encoding, errors="ignore").lstrip("\ufeff").splitlines()[0]
        names = [part.strip().strip('"') for part in header.split(separator)]
        with pa.input_stream(str(path)) as stream:
            table = pc.read_csv(
                stream,
                read_options=pc.ReadOptions(encoding=encoding, block_size=MAX_LINE_BYTES),
                parse_options=pc.ParseOptions(delimiter=separator, newlines_in_values=True),
                convert_options=pc.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True
                ),
            )
    except (pa.ArrowException, OSError, LookupError, UnicodeError, EOFError, IndexError) as error:
        raise _explain(path, error, encoding) from error
    return table


def _check_quotes(path: Path) -> None:
    """An odd number of quotes: one does not end, and the reader would take the rest of the file as a single value."""
    import pyarrow as pa

    quotes = 0
    with pa.input_stream(str(path)) as stream:
        while block := stream.read(1024 * 1024):
            quotes += block.count(b'"')
    if quotes % 2:
        action = "The file is truncated inside a quoted value, or a quote in a text is not doubled."
        raise InputError("has a quote that does not end", field=str(path), action=action)


def _explain(path: Path, error: Exception, encoding: str) -> InputError:
    text = str(error)
    if "straddling" in text or "block" in text:
        action = f"Lines may have {MAX_LINE_BYTES // 2**20} MiB; is the file one line, or does a quote not end?"
        return InputError("has a line that is too long", field=str(path), action=action)
    if "UTF8" in text.upper().replace("-", "") or isinstance(error, UnicodeError | LookupError):
        action = "Set csv.encoding in the mapping to what the file is written in, e.g. cp1252."
        return InputError(f"is not {encoding} text", field=str(path), value=_first_line(error), action=action)
    if "Expected" in text and "columns" in text:
        action = "A line has too few or too many columns: truncated, or another csv.separator."
        return InputError("is no regular table", field=str(path), value=_first_line(error), action=action)
    return InputError(f"cannot be read ({_first_line(error)})", field=str(path), action="Deliver it again.")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
