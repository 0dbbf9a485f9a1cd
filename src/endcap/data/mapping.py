"""From a shop's own columns to the contract: what `mapping.yaml` says, applied to a table.

Whatever can be read is read; a cell that cannot is null and named in the column `unreadable`, so that validation rejects the
batch with examples instead of guessing. Raw user ids become pseudonyms here, before anything is stored.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from endcap.data.mapping_file import Joined, Mapping, nearest
from endcap.data.privacy import pseudonymise_all
from endcap.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

UNREADABLE = "unreadable"
_OFFSET = r"(?:[.,]\d+)? ?[+-]\d\d(?::?\d\d)?"
_OWN_ZONE = rf"(?:Z|:\d\d{_OFFSET})$"
_OWN_ZONE_ISO = rf"(?:Z|\d[T ]\d\d(?::?\d\d){{0,2}}{_OFFSET})$"  # after an hour at least: the -01 of a plain date is its day
_GROUPED = r"^[+-]?[1-9]\d{0,2}(?:\.\d{3})+(?:,\d+)?$"  # 1.234,50


@dataclass(frozen=True, slots=True)
class Mapped:
    """`table`: contract columns, plus `unreadable` when a cell could not be read; a column that the file lacks is missing."""

    table: pa.Table
    problems: list[str]


def apply_mapping(table: pa.Table, mapping: Mapping, key: bytes, *, strict: bool = True) -> Mapped:
    """The table in contract columns.

    With `strict` a column that the file lacks is an InputError; without, it is a problem that validation will reject.
    """
    import pyarrow as pa

    reader = _Reader(table, mapping, strict)
    columns: dict[str, Any] = {}
    for field in mapping.schema:
        values = reader.column(field.name, field.type)
        if values is not None:
            columns[field.name] = values
    if mapping.kind == "events" and mapping.user_ids == "raw" and "user_id" in columns:
        columns["user_id"] = pseudonymise_all(columns["user_id"].tolist(), key)
    types = {name: mapping.schema.field(name).type for name in columns}
    arrays = {name: pa.array(values, type=types[name], from_pandas=True) for name, values in columns.items()}
    bad = reader.unreadable[reader.unreadable != ""]
    if len(bad):
        arrays[UNREADABLE] = pa.array(
            reader.unreadable.where(reader.unreadable != "", None), type=pa.string(), from_pandas=True
        )
        first = f"the first in row {int(bad.index[0]) + 1}: {bad.iloc[0]}"
        reader.problems.append(f"{len(bad):,} rows hold values that cannot be read, {first}.")
    return Mapped(pa.table(arrays), reader.problems)


class _Reader:
    """Reads columns of one table and notes what could not be read."""

    def __init__(self, table: pa.Table, mapping: Mapping, strict: bool) -> None:
        import pandas as pd

        self.known: list[str] = table.column_names
        self.table, self.mapping, self.strict = _as_text(_mapped_columns(table, mapping)), mapping, strict
        self.frame: pd.DataFrame = self.table.to_pandas(ignore_metadata=True)
        self.problems: list[str] = []
        self.unreadable = pd.Series("", index=self.frame.index, dtype=object)

    def column(self, name: str, kind: pa.DataType) -> pd.Series[Any] | None:
        """The contract's column; None when the file should have it and has not."""
        import pandas as pd
        import pyarrow as pa

        source = self.mapping.columns.get(name)
        if source is None:
            constant: Any = self.mapping.constants.get(name)
            if constant is None and name in ("available_from", "updated_at"):
                constant = datetime.now(UTC).isoformat()
            values = pd.Series([constant] * len(self.frame), dtype=object)
        elif (found := self._source(name, source)) is not None:
            values = found
        else:
            return None
        if pa.types.is_timestamp(kind):
            return self._times(name, values)
        if pa.types.is_floating(kind):
            return self._numbers(name, values)
        texts = _texts(values)
        return texts.map(lambda text: self.mapping.types.get(text, text)) if name == "type" else texts

    def _source(self, name: str, source: str | Joined) -> pd.Series[Any] | None:
        wanted = [source] if isinstance(source, str) else source.join
        for column in wanted:
            if column not in self.frame.columns:
                hint = nearest(column, self.known)
                if self.strict:
                    raise InputError(f"the file has no such column (mapped to {name})", field=column, action=hint)
                self.problems.append(f"The file has no column {column!r} (mapped to {name}). {hint}")
                return None
        if isinstance(source, str):
            return self.frame[source]
        texts = [_texts(self.frame[column]).fillna("") for column in wanted]
        joined = texts[0]
        for text in texts[1:]:
            joined = joined + "-" + text
        if source.numbered:
            joined = joined + "-" + (joined.groupby(joined, sort=False).cumcount() + 1).astype(str)
        return joined

    def _numbers(self, name: str, values: pd.Series[Any]) -> pd.Series[Any]:
        import pandas as pd

        is_text = pd.api.types.infer_dtype(values, skipna=True) == "string"
        texts = _decimal_points(values) if is_text and self.mapping.csv.decimal == "," else values
        numbers = pd.to_numeric(texts, errors="coerce").astype(float)
        self._note(name, values, numbers.isna() & (values.notna() | self._is_nan(name)))
        return numbers

    def _is_nan(self, name: str) -> pd.Series[bool]:
        """Where Parquet holds a NaN: pandas shows it as missing, but the shop wrote a number that is none."""
        import pandas as pd
        import pyarrow as pa
        import pyarrow.compute as pc

        source = self.mapping.columns.get(name)
        column = self.table[source] if isinstance(source, str) else None
        if column is None or not pa.types.is_floating(column.type):
            return pd.Series(False, index=self.frame.index)
        return pd.Series(pc.fill_null(pc.is_nan(column), False).to_pandas())

    def _times(self, name: str, values: pd.Series[Any]) -> pd.Series[Any]:
        """Times in UTC; those that carry no zone of their own are of the mapping's."""
        import pandas as pd

        if pd.api.types.is_datetime64_any_dtype(values):
            times = self._in_zone(values)
        else:
            form = self.mapping.time.format
            own_zone = values.astype(str).str.contains(_own_zone(form))
            zoned = pd.to_datetime(values.where(own_zone), format=form, errors="coerce", utc=True)
            local = pd.to_datetime(values.where(~own_zone), format=form, errors="coerce")
            times = zoned.fillna(self._in_zone(local))
        self._note(name, values, times.isna() & values.notna())
        utc: pd.Series[Any] = times.dt.tz_convert("UTC").astype("datetime64[us, UTC]")
        return utc

    def _in_zone(self, times: pd.Series[Any]) -> pd.Series[Any]:
        """Local times as UTC. The hour that comes twice in autumn is taken as winter's; the one missing in spring moves on."""
        if times.dt.tz is not None:
            return times
        winter = [False] * len(times)
        local = times.dt.tz_localize(self.mapping.time.zone, ambiguous=winter, nonexistent="shift_forward")
        utc: pd.Series[Any] = local.dt.tz_convert("UTC")
        return utc

    def _note(self, name: str, values: pd.Series[Any], bad: pd.Series[bool]) -> None:
        if bad.any():
            notes = name + "=" + values[bad].map(repr).str.slice(0, 60)
            self.unreadable[bad] = (self.unreadable[bad] + " " + notes).str.strip()


def _mapped_columns(table: pa.Table, mapping: Mapping) -> pa.Table:
    """What the mapping uses; without names that stand twice, which could mean either."""
    wanted = {name for source in mapping.columns.values() for name in ([source] if isinstance(source, str) else source.join)}
    count = Counter(table.column_names)
    return table.select([i for i, name in enumerate(table.column_names) if name in wanted and count[name] == 1])


def _as_text(table: pa.Table) -> pa.Table:
    """Binary columns as text. Parquet writers leave out that a column is text, or write what is none."""
    import pyarrow as pa

    for index, field in enumerate(table.schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        try:
            if kind in (pa.binary(), pa.large_binary(), pa.binary_view()) or pa.types.is_fixed_size_binary(kind):
                table = table.set_column(index, field.name, table[index].cast(pa.large_string()))
            elif kind in (pa.string(), pa.large_string(), pa.string_view()):
                table[index].validate(full=True)
        except pa.ArrowException as error:
            action = "Write the column as UTF-8 text, or map another."
            raise InputError("the file's column is no UTF-8 text", field=field.name, value=str(kind), action=action) from error
    return table


def _own_zone(form: str) -> str:
    """Regular expression of the times that carry their zone; a pattern with %z or %Z reads no others."""
    if form == "ISO8601":
        return _OWN_ZONE_ISO
    return "" if "%z" in form or "%Z" in form else _OWN_ZONE


def _decimal_points(values: pd.Series[Any]) -> pd.Series[Any]:
    """1.234,50 → 1234.50 and 2,5 → 2.5. Any other dot is kept from being read: 2.50 is no 250."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pc.utf8_trim_whitespace(pa.array(values, pa.large_string(), from_pandas=True))
    dotted = pc.match_substring(texts, ".")
    grouped = pc.match_substring_regex(texts, _GROUPED)
    texts = pc.if_else(grouped, pc.replace_substring(texts, ".", ""), texts)
    readable = pc.or_(pc.invert(dotted), grouped)
    points = pc.replace_substring(pc.if_else(readable, texts, None), ",", ".")
    return pd.Series(points.to_numpy(zero_copy_only=False), index=values.index, dtype=object)


def _texts(values: pd.Series[Any]) -> pd.Series[Any]:
    """Texts without outer blanks; whole numbers without a point (17850.0 → "17850"); blank is null."""
    import pandas as pd

    if pd.api.types.is_float_dtype(values) and (values.dropna() % 1 == 0).all():
        values = values.astype("Int64")
    texts = values.astype("string").str.strip().astype(object)
    return texts.where(texts.notna() & (texts != ""), None)
