"""A shop's mapping file: which of its columns is which of the contract's, and how its texts are to be read."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from endcap import contracts
from endcap.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa


def _compilable(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is no regular expression ({error})") from error
    return pattern


def _known_zone(zone: str) -> str:
    import pandas as pd

    try:
        pd.Timestamp(0, tz=zone)
    except (LookupError, ValueError, OSError) as error:
        raise ValueError("is no time zone that is known here; write it as Europe/Berlin, UTC or +01:00") from error
    return zone


def _time_format(form: str) -> str:
    import pandas as pd

    if form != "ISO8601" and "%" not in form:
        raise ValueError("is neither ISO8601 nor a strptime pattern such as %d.%m.%Y %H:%M:%S")
    try:
        pd.to_datetime(pd.Series(["no time"]), format=form, errors="coerce")
    except (ValueError, re.error) as error:
        raise ValueError(f"is no strptime pattern ({error}); write one such as %d.%m.%Y %H:%M:%S") from error
    return form


def _separates(separator: str) -> str:
    if not separator.isascii() or separator in '"\r\n\0':
        raise ValueError("cannot separate columns: it must be an ASCII character such as , ; | or a tab, and no quote")
    return separator


def _text_encoding(encoding: str) -> str:
    try:
        "".encode(encoding)
    except (LookupError, ValueError) as error:
        raise ValueError(f"is no encoding that is known here ({error}); write it as utf-8, utf-16 or cp1252") from error
    return encoding


CodePattern = Annotated[str, Field(min_length=1), AfterValidator(_compilable)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Joined(_Part):
    """Several columns as one, joined by `-`; `numbered` adds which row with these values it is, so that each is unique."""

    join: Annotated[list[str], Field(min_length=1)]
    numbered: bool = False


class TimeFormat(_Part):
    format: Annotated[str, AfterValidator(_time_format)] = Field("ISO8601", description="strptime pattern, or ISO8601.")
    zone: Annotated[str, AfterValidator(_known_zone)] = Field("UTC", description="Of times that carry none.")


class Csv(_Part):
    separator: Annotated[str, Field(min_length=1, max_length=1), AfterValidator(_separates)] = ","
    encoding: Annotated[str, AfterValidator(_text_encoding)] = "utf-8"
    decimal: Literal[".", ","] = "."


class Mapping(_Part):
    """A mapping file. `columns`: contract column → column of the file."""

    kind: Literal["events", "catalog"] = "events"
    columns: dict[str, str | Joined]
    constants: dict[str, str | float] = {}
    types: dict[str, contracts.EventType] = {}
    time: TimeFormat = TimeFormat()
    csv: Csv = Csv()
    user_ids: Literal["raw", "pseudonyms"] = "raw"
    code_pattern: CodePattern | None = (
        None  # regular expression of the shop's proper item codes; others are junk (postage, fees)
    )

    @property
    def schema(self) -> pa.Schema:
        return contracts.event_schema() if self.kind == "events" else contracts.catalog_schema()


def load_mapping(path: Path) -> Mapping:
    """Read a mapping file. Raises InputError that names the key, its value and the nearest right one."""
    try:
        mapping = Mapping.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"cannot be read ({error})", field=str(path), action="`examples/` has mappings to copy.") from error
    except ValidationError as error:
        bad = error.errors()[0]
        name = ".".join(str(part) for part in bad["loc"]) or str(path)
        action = f"Keys: {', '.join(Mapping.model_fields)}; `examples/` has mappings to copy."
        raise InputError(f"{bad['msg']} in {path}", field=name, value=bad["input"], action=action) from error
    for name in [*mapping.columns, *mapping.constants]:
        if name not in mapping.schema.names:
            raise InputError(
                f"no column of the contract `{mapping.kind}`", field=name, action=nearest(name, mapping.schema.names)
            )
    required = [f.name for f in mapping.schema if not f.nullable and f.name not in ("available_from", "updated_at")]
    if missing := [name for name in required if name not in {*mapping.columns, *mapping.constants}]:
        raise InputError(f"not mapped in {path}", field=missing[0], action="Add it to `columns` or `constants`.")
    return mapping


def nearest(name: str, known: list[str]) -> str:
    """What to do about a name that is not among the known ones."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"Did you mean `{near[0]}`?" if near else f"Known: {', '.join(known[:20])}."
