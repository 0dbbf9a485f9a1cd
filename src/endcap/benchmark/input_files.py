"""A benchmark's files as they lie there: how their columns are divided and named, and their checksums.

Not here: what the columns mean (`tables.py`, `item_table.py`, `behaviour/files.py`).
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pyarrow as pa

from endcap.data.table_files import read_table
from endcap.errors import InputError

SEPARATORS = ",;\t|"
HEADER_BYTES = 65_536


def read_frame(path: Path) -> pd.DataFrame:
    """The rows of a file, columns named in lower case.

    Raises:
        InputError: unreadable, divided by something else than its ending says, or two names differ in case alone.
    """
    return in_lower_case(read_table(path, separator=separator_of(path)).to_pandas(), path)


def separator_of(path: Path) -> str:
    """What divides the columns of a text file: tabs where its name ends in .tsv (or .tsv.gz), else commas.

    Raises:
        InputError: its header is divided by something else.
    """
    name, header = path.name.lower(), ""
    expected = "\t" if name.endswith((".tsv", ".tsv.gz")) else ","
    if name.endswith((".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt")):
        with suppress(OSError), pa.input_stream(str(path)) as stream:  # who reads the file says what is wrong with it
            header = stream.read(HEADER_BYTES).decode("utf-8", "replace").partition("\n")[0]
    likely = max(SEPARATORS, key=header.count)
    if header.count(likely) > header.count(expected):
        action = "Divide them by commas, or by tabs in a file that ends in .tsv, with a point in 3.50; or give Parquet."
        what = f"columns look divided by {likely!r}, not by {expected!r}"
        raise InputError(what, field=str(path), value=header.strip(), action=action)
    return expected


def in_lower_case(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The same rows, numbered from 0, columns named in lower case.

    Raises:
        InputError: two names differ in case alone.
    """
    names = pd.Index([str(name).strip().lower() for name in frame.columns])
    if names.has_duplicates:
        twice = [str(name) for name, same in zip(frame.columns, names.duplicated(keep=False), strict=True) if same]
        raise InputError("columns differ in case alone", field=str(path), value=twice, action="Keep one of them.")
    return frame.set_axis(names, axis=1).reset_index(drop=True)


def describe_files(**paths: Path | None) -> dict[str, dict[str, str]]:
    """The files by what they are for: name and checksum, without a path, which says nothing elsewhere."""
    return {role: {"name": path.name, "sha256": sha256_of(path)} for role, path in paths.items() if path}


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
