"""The items file of a benchmark: one text an item, made of every column that holds words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from endcap.benchmark.input_files import read_frame
from endcap.benchmark.tables import NAMES, text_ids
from endcap.data.item_text import FIELDS, in_lines
from endcap.errors import InputError

WORD = re.compile(r"(?<![^\W_])[^\W\d_]{2,}(?![^\W_])")  # letters alone: "B004ZT0SSG" and "173 1 162" hold none
UNSPACED = re.compile(r"[^\W\d_\x00-\x7f]{2,}")  # scripts without blanks between words
LINK = re.compile(r"(https?:)?//|data:")


@dataclass(frozen=True, slots=True, eq=False)
class ItemTable:
    """The catalogue: every item that may be ranked, in the vocabulary's order."""

    item_ids: tuple[str, ...]  # sorted
    texts: tuple[str, ...]  # a line each of `text_columns`; "" where nothing is known
    text_columns: tuple[str, ...]
    left_out: tuple[str, ...]  # columns that hold no words
    warnings: tuple[str, ...]


def read_items(path: Path | None, interacted: Iterable[str]) -> ItemTable:
    """The catalogue of a file and of the interactions together; `path` None: ids only.

    Raises:
        InputError: unreadable, no item column, null ids, or not one id in common with the interactions.
    """
    known = sorted({str(item) for item in interacted})
    if path is None:
        return ItemTable(tuple(known), ("",) * len(known), (), (), ())
    frame = read_frame(path)
    key = next((name for name in NAMES["item"] if name in frame), None)
    if key is None:
        action = f"Name a column {' or '.join(NAMES['item'])}."
        raise InputError("the column is missing", field=f"{path}: item", value=list(frame.columns), action=action)
    ids = text_ids(frame[key], f"{path}: {key}")
    warnings = []
    twice = pd.Series(ids).duplicated().to_numpy()
    if twice.any():
        warnings.append(f"{int(twice.sum()):,} rows repeat an item: the first row of each is kept")
        frame, ids = frame[~twice], ids[~twice]
    listed = set(ids)
    missing = len(set(known) - listed)
    if missing == len(known):
        action = "Are these ids of another kind, or is it another shop's file?"
        raise InputError("lists no item of the interactions", field=str(path), value=(list(ids[:1]), known[:1]), action=action)
    if missing:
        warnings.append(f"{missing:,} of {len(known):,} items of the interactions are not in the items file: without text")
    candidates = {str(name): plain_texts(frame[name]) for name in frame.columns if name != key}
    columns = tuple(sorted((name for name, values in candidates.items() if has_words(name, values)), key=_field_order))
    joined = [in_lines(row) for row in zip(*(candidates[c] for c in columns), strict=True)]
    text = dict(zip(ids, joined, strict=True)) if columns else {}
    if not columns:
        warnings.append("no column of the items file holds words: ids only")
    elif empty := sum(not text.get(item) for item in known):
        warnings.append(f"{empty:,} of {len(known):,} items of the interactions have no text")
    everything = sorted(listed | set(known))
    left_out = tuple(name for name in candidates if name not in columns)
    return ItemTable(tuple(everything), tuple(text.get(item, "") for item in everything), columns, left_out, tuple(warnings))


def plain_texts(column: pd.Series[Any]) -> list[str]:
    """A column's values as texts: lists joined, nulls and numbers empty."""
    return [_plain(value) for value in column]


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, list | tuple | np.ndarray):
        return " ".join(part for part in map(_plain, value) if part)
    return ""


def has_words(name: str, values: list[str]) -> bool:
    """Whether at least half of a column's values hold a word. A column of single words, each its own, is taken for ids,
    unless its name says that it is text.

    >>> has_words("label", ["Red mug", "Blue cup"]), has_words("asin", ["B004ZT0SSG", "7806397051"])
    (True, False)
    """
    given = [value for value in values if value]
    wordy = sum(bool(not LINK.match(value) and (WORD.search(value) or UNSPACED.search(value))) for value in given)
    if not given or wordy * 2 < len(given):
        return False
    single = all(" " not in value for value in given)
    return name in FIELDS or not (single and len(set(given)) == len(given) and all(value.isascii() for value in given))


def _field_order(name: str) -> tuple[int, str]:
    return (FIELDS.index(name) if name in FIELDS else len(FIELDS), name)
