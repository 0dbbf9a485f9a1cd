"""The vectors of a benchmark's item texts, and what they cost."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from endcap.benchmark.item_table import ItemTable
from endcap.benchmark.measuring import Cost
from endcap.config import Params
from endcap.data.features import Interactions
from endcap.errors import InputError
from endcap.models.history import Floats
from endcap.models.text_space import TextSpace, fit_space, raw_space
from endcap.progress import Progress, spaced
from endcap.training.field_weights import weigh_fields
from endcap.training.text.objectives import Ints, neighbour_pairs


def encode_texts(
    items: ItemTable, learnt: Interactions, params: Params, cache: Path | None, progress: Progress
) -> tuple[Floats | None, dict[str, Any]]:
    """(I, E) vectors of the items' texts and what that cost; None where no item has text.

    `learnt`: what may be learnt from, over the vocabulary of `items`; it says how the fields weigh, if they are to.

    Raises:
        InputError: time ran out.
    """
    if not any(items.texts):
        return None, {}
    knobs, show = params.encode, spaced(progress)
    space, ends = raw_space(knobs.model, knobs.max_tokens, knobs.max_chunks), time.monotonic() + knobs.max_seconds

    def read(space: TextSpace, texts: list[str]) -> Floats:
        rest = ends - time.monotonic()
        vectors, left = space.encode(texts, knobs.batch_size, cache, rest, lambda done: show(f"{done:,} texts encoded"))
        if left:
            action = "Run again: the texts done so far are cached; or raise encode.max_seconds in params.yaml."
            raise InputError(
                f"time ran out with {left:,} texts not encoded",
                field="encode.max_seconds",
                value=knobs.max_seconds,
                action=action,
            )
        return vectors

    whitened = knobs.whitening == "pca"
    with Cost() as cost:
        if knobs.fields == "weighed":
            raw, (texts, pairs_P2) = space, lessons(items, learnt)
            space = weigh_fields(raw, texts, pairs_P2, lambda plain: read(raw, plain), params.train.seed, whitened=whitened)
        vectors = read(space, list(items.texts))
    if whitened and (whitening := fit_space(space, vectors, knobs.dims).whitening):
        vectors = whitening.apply(vectors)
    facts = {"model": knobs.model, "whitening": knobs.whitening, "dimensions": int(vectors.shape[1])}
    if knobs.fields == "weighed":
        facts["field_weights"] = dict(zip(items.text_columns, space.field_weights, strict=False))
    return vectors, cost.facts("encode") | facts


def lessons(items: ItemTable, learnt: Interactions) -> tuple[list[str], Ints]:
    """The distinct texts, and the pairs of them whose items one shopper took in a row."""
    codes, texts = pd.factorize(np.array(items.texts, object))
    own = learnt.where(np.argsort(learnt.users, kind="stable"))
    own = own.where(texts[codes[own.items]] != "")
    return [str(text) for text in texts], neighbour_pairs(own.users, codes[own.items])
