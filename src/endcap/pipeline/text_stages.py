"""The two stages about texts: adapt teaches the encoder the shop's language, encode turns the catalogue's texts into vectors.

An update changes neither the encoder nor the whitening of its parent: the space must not move under the weights that read it.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.data.item_text import one_line
from endcap.pipeline.stages import read_json, write_json
from endcap.progress import Progress, silent, spaced

if TYPE_CHECKING:
    from endcap.config import Params
    from endcap.models.text.space import TextSpace
    from endcap.training.text.objectives import Ints

MARKER = "adapted.json"  # says what was done, also when that is nothing
CHECKPOINT = Path("adapt.checkpoint.safetensors")  # beside work/, since DVC clears a stage's outputs before it runs


def adapt(root: Path, params: Params, progress: Progress = silent) -> dict[str, Any]:
    """Write work/adapted: the marker, and with a method the adapted encoder. An update keeps its parent's encoder.

    Raises:
        TrainingError: the loss is not finite, time ran out, or there is nothing to learn from.
        ConfigError: the encoder cannot be loaded, or cannot learn this way.
    """
    from endcap.models.text.space import ENCODER
    from endcap.training.text.adaptation import adapt_encoder
    from endcap.training.text.objectives import AdaptOptions

    target = root / "work" / "adapted"
    facts: dict[str, Any] = {"method": params.adapt.method, "steps": 0}
    parent = _parent(root)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    if parent:
        facts["method"] = "none"
        if (parent / ENCODER).is_dir():
            facts["method"] = "as its parent"
            shutil.copytree(parent / ENCODER, target / ENCODER)
    elif params.adapt.method != "none":
        texts, pairs_P2 = _lessons(root)
        options = AdaptOptions(**params.adapt.model_dump())
        curve = adapt_encoder(
            params.encode.model,
            [one_line(text) for text in texts],
            pairs_P2,
            options,
            target / ENCODER,
            root / CHECKPOINT,
            spaced(progress),
        )
        write_json(target / "curve.json", [round(loss, 4) for loss in curve])
        facts |= {"steps": len(curve), "peft": params.adapt.peft}
    write_json(target / MARKER, facts)
    (root / CHECKPOINT).unlink(missing_ok=True)
    return facts


def encode(root: Path, params: Params, cache: Path | None = None, progress: Progress = silent) -> dict[str, Any]:
    """Turn the items' texts into vectors; `cache` keeps them by content between runs.

    Raises:
        TrainingError: time ran out; nothing is written, since incomplete vectors would be taken for the stage's result.
    """
    import numpy as np
    import pandas as pd
    from safetensors.numpy import save_file

    from endcap.training.text.vectors import learn_space, reader

    items = pd.read_parquet(root / "work" / "prepared" / "items.parquet", columns=["item_id", "text"])
    texts, (space, fixed), read = items["text"].tolist(), _space(root, params), reader(params.encode, cache, progress)
    if fixed:
        vectors = read(space, texts)
    else:
        space, vectors = learn_space(space, texts, lambda: _lessons(root), params.encode, read, params.train.seed)
    target, says = root / "work" / "encoded", vectors.any(axis=1)
    shutil.rmtree(target, ignore_errors=True)
    space.save(target)
    arrays: dict[str, Any] = {"text": vectors.astype(np.float16), "has_text": says.astype(np.uint8)}
    save_file(arrays, target / "text.safetensors")
    write_json(target / "items.json", items["item_id"].tolist())
    silent_items = int(len(items) - says.sum())
    facts = {"items": len(items), "dimensions": int(vectors.shape[1]), "without_text": silent_items}
    return facts | ({"field_weights": list(space.field_weights)} if params.encode.fields == "weighed" else {})


def _space(root: Path, params: Params) -> tuple[TextSpace, bool]:
    """Where texts are encoded to, and whether it is fixed: the parent's as it is, else a new one without its whitening."""
    from endcap.models.text.space import TextSpace, load_space, raw_space

    options, parent = params.encode, _parent(root)
    if not parent:
        return raw_space(options.model, options.max_tokens, options.max_chunks, root / "work" / "adapted"), False
    name = read_json(parent / "config.json", "Make the workspace again.").get("encoder", options.model)
    return load_space(parent) or TextSpace(str(name), options.max_tokens), True


def _parent(root: Path) -> Path | None:
    """The directory of the model that is updated; None for a full training."""
    facts = root / "data" / "parent" / "parent.json"
    if not facts.exists() or read_json(facts, "Make the workspace again.")["kind"] != "incremental":
        return None
    return root / "data" / "parent" / "model"


def _lessons(root: Path) -> tuple[list[str], Ints]:
    """The distinct texts, and the pairs of texts whose items one shopper took in a row, before validation starts."""
    import pandas as pd

    from endcap.training.text.objectives import neighbour_pairs

    prepared = root / "work" / "prepared"
    items = pd.read_parquet(prepared / "items.parquet", columns=["item_id", "text"])
    items = items[items["text"].str.strip() != ""]
    row, texts = pd.factorize(items["text"])
    until = pd.Timestamp(read_json(prepared / "split.json", "Run the stage prepare first.")["validation_start"])
    events = pd.read_parquet(prepared / "interactions.parquet", columns=["user_id", "item_id", "time"])
    events = events[events["time"] < until].sort_values(["user_id", "time"], kind="stable")
    known = events["item_id"].map(dict(zip(items["item_id"], row, strict=True))).dropna().astype(int)
    users = pd.factorize(events.loc[known.index, "user_id"])[0]
    return texts.tolist(), neighbour_pairs(users, known.to_numpy())
