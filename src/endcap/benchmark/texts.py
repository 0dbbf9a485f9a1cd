"""The vectors of a benchmark's item texts, and what they cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from endcap.benchmark.item_table import ItemTable
from endcap.benchmark.measuring import Cost
from endcap.config import Params
from endcap.errors import InputError
from endcap.models.history import Floats
from endcap.models.text_space import fit_space, raw_space
from endcap.progress import Progress, spaced


def encode_texts(
    items: ItemTable, params: Params, cache: Path | None, progress: Progress
) -> tuple[Floats | None, dict[str, Any]]:
    """(I, E) vectors of the items' texts and what that cost; None where no item has text.

    Raises:
        InputError: time ran out.
    """
    if not any(items.texts):
        return None, {}
    knobs = params.encode
    space = raw_space(knobs.model, knobs.max_tokens, knobs.max_chunks)
    show = spaced(progress)
    with Cost() as cost:
        vectors, left = space.encode(
            items.texts, knobs.batch_size, cache, knobs.max_seconds, lambda done: show(f"{done:,} texts encoded")
        )
    if left:
        action = "Run again: the texts done so far are cached; or raise encode.max_seconds in params.yaml."
        raise InputError(
            f"time ran out with {left:,} texts not encoded", field="encode.max_seconds", value=knobs.max_seconds, action=action
        )
    if knobs.whitening == "pca" and (whitening := fit_space(space, vectors, knobs.dims).whitening):
        vectors = whitening.apply(vectors)
    facts = {"model": knobs.model, "whitening": knobs.whitening, "dimensions": int(vectors.shape[1])}
    return vectors, cost.facts("encode") | facts
