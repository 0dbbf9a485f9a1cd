"""The text of an item: the one rule that training encodes by and monitoring compares by.

A text is its fields, a line each, so that an encoder may read them together or one by one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

FIELDS = ("title", "brand", "category", "description")
BREAK = "\n"


def item_texts(catalog: pd.DataFrame) -> list[str]:
    """Title, brand, category and description of each item, a line each; "" for nothing.

    >>> import pandas as pd
    >>> item_texts(pd.DataFrame({"title": ["Mug"], "brand": [None], "category": ["Kitchen"], "description": ["A\\nmug"]}))
    ['Mug\\n\\nKitchen\\nA mug']
    """
    fields = catalog.reindex(columns=list(FIELDS)).astype("string").fillna("")
    return [in_lines(row) for row in fields.itertuples(index=False)]


def in_lines(fields: Iterable[str]) -> str:
    """A text of these fields; "" where none says anything."""
    text = BREAK.join(" ".join(field.split()) for field in fields)
    return text if text.strip() else ""


def one_line(text: str) -> str:
    """The fields of a text in a row, without repetition.

    >>> one_line("Mug\\n\\nKitchen\\nMug")
    'Mug. Kitchen'
    """
    return ". ".join(dict.fromkeys(field for field in text.split(BREAK) if field))


def field_of(text: str, place: int) -> str:
    """One field of a text; "" where it has not so many.

    >>> field_of("Mug\\n\\nKitchen", 2), field_of("Mug", 2)
    ('Kitchen', '')
    """
    fields = text.split(BREAK)
    return fields[place] if place < len(fields) else ""
