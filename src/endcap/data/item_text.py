"""The text of an item: the one rule that training encodes by and monitoring compares by."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

FIELDS = ("title", "brand", "category", "description")


def item_texts(catalog: pd.DataFrame) -> list[str]:
    """What is known of title, brand, category and description, in that order and without repetition; "" for nothing.

    >>> import pandas as pd
    >>> item_texts(pd.DataFrame({"title": ["Mug"], "brand": [None], "category": ["Kitchen"], "description": ["Mug"]}))
    ['Mug. Kitchen']
    """
    fields = catalog.reindex(columns=list(FIELDS)).astype("string").fillna("")
    return [". ".join(dict.fromkeys(part for part in row if part)) for row in fields.itertuples(index=False)]
