"""Reading a shop's own files: CSV (also .gz) and Parquet, with errors that say what is wrong with the file.

Not here: what the columns mean (`mapping.py`).
"""

from __future__ import annotations

import codecs
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from endcap.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

MAX_LINE_BYTES = 16 * 1024 * 1024
_PARQUET = (".parquet", ".pq")
_CSV = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt")


def read_table(path: Path, *, separator: str = ",", encoding: str = "utf-8") -> pa.Table:
    """The file's rows. Columns of a CSV are strings (empty: null), so that no code loses its zeros; Parquet keeps its types.

    Raises:
        InputError: missing, empty, truncated, no table, in another encoding, with a line over 16 MiB (as UTF-8), or with
            two columns of one name.
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
            parquet = pq.ParquetFile(file)
            _check_names(path, parquet.schema_arrow.names)
            return parquet.read()
    except (pa.ArrowException, OSError) as error:
        action = "It is truncated or no Parquet file: deliver it again."
        raise InputError(f"cannot be read ({_first_line(error)})", field=str(path), action=action) from error


def _read_csv(path: Path, separator: str, encoding: str) -> pa.Table:
    import pyarrow as pa
    import pyarrow.csv as pc

    read = pc.ReadOptions(block_size=MAX_LINE_BYTES)
    parse = pc.ParseOptions(delimiter=separator, newlines_in_values=True)
    try:
        _check_bytes(path, encoding)
        _check_lines(path, encoding)
        with _open_utf8(path, encoding) as stream, pc.open_csv(stream, read_options=read, parse_options=parse) as first:
            names = first.schema.names  # as the reader itself splits the header, quotes and blanks included
        _check_names(path, names)
        texts = pc.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True)
        with _open_utf8(path, encoding) as stream:
            return pc.read_csv(stream, read_options=read, parse_options=parse, convert_options=texts)
    except (pa.ArrowException, OSError, LookupError, UnicodeError, EOFError) as error:
        raise _explain(path, error, encoding) from error


def _open_utf8(path: Path, encoding: str) -> pa.NativeFile:
    """The file's text as UTF-8 bytes, whatever it is written in and whether it is compressed."""
    import pyarrow as pa

    stream = pa.input_stream(str(path))
    if codecs.lookup(encoding).name == "utf-8":
        return stream
    return pa.transcoding_input_stream(stream, encoding, "utf-8")


def _check_names(path: Path, names: list[str]) -> None:
    """Columns without a name may repeat: a line's last separators make them, and no mapping means them."""
    if twice := [name for name, count in Counter(names).items() if name and count > 1]:
        action = "Rename or drop one of them in the export: a mapping could mean either."
        raise InputError("has two columns of one name", field=str(path), value=twice[0], action=action)


def _check_bytes(path: Path, encoding: str) -> None:
    import pyarrow as pa

    with pa.input_stream(str(path)) as stream:
        head = stream.read(64 * 1024)
    if b"\0" in head and "16" not in encoding and "32" not in encoding:
        action = "Set csv.encoding in the mapping, e.g. utf-16."
        raise InputError("holds zero bytes: UTF-16 or no text", field=str(path), action=action)


def _check_lines(path: Path, encoding: str) -> None:
    """No line over the limit, and no quote without end: the reader would take the rest of the file as a single value."""
    quotes = open_bytes = 0
    with _open_utf8(path, encoding) as stream:
        while block := stream.read(1024 * 1024):
            quotes += block.count(b'"')
            ends = [place for place in (block.find(b"\n"), block.find(b"\r")) if place >= 0]
            if open_bytes + min(ends, default=len(block)) > MAX_LINE_BYTES:
                raise _too_long(path)
            last = max(block.rfind(b"\n"), block.rfind(b"\r"))
            open_bytes = len(block) - last - 1 if ends else open_bytes + len(block)
    if quotes % 2:
        action = "The file is truncated inside a quoted value, or a quote in a text is not doubled."
        raise InputError("has a quote that does not end", field=str(path), action=action)


def _too_long(path: Path) -> InputError:
    action = f"Lines may have {MAX_LINE_BYTES // 2**20} MiB; is the file one line, or does a quote not end?"
    return InputError("has a line that is too long", field=str(path), action=action)


def _explain(path: Path, error: Exception, encoding: str) -> InputError:
    text = str(error)
    if "Empty CSV" in text:
        action = "It is blank, or a header alone: deliver it again; was its writing cut short?"
        return InputError("has no rows", field=str(path), action=action)
    if "straddling" in text:
        return _too_long(path)
    if "UTF8" in text.upper().replace("-", "") or isinstance(error, UnicodeError | LookupError):
        action = "Set csv.encoding in the mapping to what the file is written in, e.g. cp1252."
        return InputError(f"is not {encoding} text", field=str(path), value=_first_line(error), action=action)
    if "Expected" in text and "columns" in text:
        action = "A line has too few or too many columns: truncated, or another csv.separator."
        return InputError("is no regular table", field=str(path), value=_first_line(error), action=action)
    return InputError(f"cannot be read ({_first_line(error)})", field=str(path), action="Deliver it again.")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
