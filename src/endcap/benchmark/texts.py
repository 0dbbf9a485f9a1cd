"""The vectors of a benchmark's item texts, and what they cost; how they are read is said in params.yaml."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from endcap.benchmark.item_table import ItemTable
from endcap.benchmark.measuring import Cost
from endcap.config import Params
from endcap.data.features import Interactions
from endcap.data.item_text import one_line
from endcap.models.history import Floats
from endcap.models.text.space import ENCODER, raw_space
from endcap.progress import Progress, spaced
from endcap.training.text.adaptation import adapt_encoder, adaptation_key
from endcap.training.text.objectives import AdaptOptions, Ints, neighbour_pairs
from endcap.training.text.vectors import learn_space, reader


def encode_texts(
    items: ItemTable, learnt: Interactions, params: Params, cache: Path | None, progress: Progress
) -> tuple[Floats | None, dict[str, Any]]:
    """(I, E) vectors of the items' texts and what that cost; None where no item has text.

    `learnt`: what may be learnt from, over the vocabulary of `items`; it teaches the encoder and says how the fields weigh,
    if they are to. `cache` keeps vectors and adapted encoders between runs.

    Raises:
        TrainingError: time ran out, or the encoder cannot learn from these texts.
        ConfigError: the encoder cannot be loaded, or cannot learn this way.
    """
    if not any(items.texts):
        return None, {}
    knobs = params.encode
    facts: dict[str, Any] = {"model": knobs.model, "whitening": knobs.whitening, "adapt": params.adapt.method}
    with tempfile.TemporaryDirectory() as scratch, Cost() as cost:
        adapted = None
        if params.adapt.method != "none":
            adapted = taught_encoder(items, learnt, params, cache or Path(scratch), progress)
            facts["peft"] = params.adapt.peft
        raw = raw_space(knobs.model, knobs.max_tokens, knobs.max_chunks, adapted)
        read = reader(knobs, cache, progress)
        space, vectors = learn_space(raw, items.texts, lambda: lessons(items, learnt), knobs, read, params.train.seed)
    facts |= {"dimensions": int(vectors.shape[1])}
    if knobs.fields == "weighed":
        facts["field_weights"] = dict(zip(items.text_columns, space.field_weights, strict=False))
    return vectors, cost.facts("encode") | facts


def taught_encoder(items: ItemTable, learnt: Interactions, params: Params, folder: Path, progress: Progress) -> Path:
    """Where the adapted encoder lies; one that was taught the same before is used again, one that was cut goes on."""
    texts, pairs_P2 = lessons(items, learnt)
    options = AdaptOptions(**params.adapt.model_dump())
    plain = [one_line(text) for text in texts if text.strip()]
    place = np.cumsum([bool(text.strip()) for text in texts]) - 1
    lesson = (params.encode.model, plain, place[pairs_P2], options)
    target = folder / f"adapted-{adaptation_key(*lesson)[:16]}"
    if not (target / ENCODER).is_dir():
        target.mkdir(parents=True, exist_ok=True)
        checkpoint = target / "checkpoint.safetensors"
        adapt_encoder(*lesson, target / ENCODER, checkpoint, spaced(progress))
        checkpoint.unlink(missing_ok=True)
    return target


def lessons(items: ItemTable, learnt: Interactions) -> tuple[list[str], Ints]:
    """The distinct texts, and the pairs of them whose items one shopper took in a row."""
    codes, texts = pd.factorize(np.array(items.texts, object))
    own = learnt.where(np.argsort(learnt.users, kind="stable"))
    own = own.where(texts[codes[own.items]] != "")
    return [str(text) for text in texts], neighbour_pairs(own.users, codes[own.items])
