"""Incremental update: warm start from a parent, learn new events with a replay of old ones against forgetting.

Items that the parent did not know enter by their text alone; their id embedding starts at zero and is learnt from new events.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from endcap.data.features import Interactions
from endcap.models.blend import BlendedRecommender
from endcap.models.history import Floats
from endcap.models.sequential import SequenceModel
from endcap.progress import Progress, silent
from endcap.training.absorb import absorb
from endcap.training.behaviour.days import ShownDays
from endcap.training.counting import recount
from endcap.training.fitting import Fitted, behaviour_of, item_table, learn_blend
from endcap.training.guard import guarded
from endcap.training.options import FitOptions


@guarded
def fit_update(
    parent: BlendedRecommender,
    interactions: Interactions,
    catalog: pd.DataFrame,
    text_IE: Floats,
    since: datetime,
    until: datetime,
    options: FitOptions,
    progress: Progress = silent,
    *,
    hold: float | None = None,
    shown: ShownDays | None = None,
    checkpoint_path: Path | None = None,
) -> Fitted:
    """The parent, brought from `since` (what it was trained until) to `until`; the parent itself is left as it was.

    The new days are ranked before they are learnt, and move the blend's weights from the parent's: held to them as by `hold`
    shoppers, or as strongly as one half of the new days' shoppers says of the other. What was `shown` in the new days teaches
    a behaviour head, or the one it knows is kept. One that was cut goes on from the checkpoint, if it began with this parent.
    """
    network = grow(parent, list(interactions.item_ids), text_IE)
    model = BlendedRecommender(
        item_table(catalog, network), network, recount(parent.counts, interactions, since, options.recent_days),
        interactions.target_types, parent.weights.copy(), parent.ranker, parent.mix, options.newcomers, dict(parent.config),
    )  # fmt: skip
    validation = learn_blend(model, interactions, since, until, options, hold) if since < until else pd.DataFrame()
    behaviour = behaviour_of(model, shown, interactions, since, until, options, progress)
    curve = absorb(model, interactions, since, until, options, progress, checkpoint_path)
    seen = datetime.fromisoformat(parent.config["trained_until"])  # the weights keep what the parent saw, even beyond `until`
    model.config["trained_until"] = max(seen, until).isoformat()
    return Fitted(model, curve, validation, behaviour=behaviour)


def grow(parent: BlendedRecommender, item_ids: list[str], text_IE: Floats) -> SequenceModel:
    """A copy of the parent's network over a new vocabulary: known items keep their embedding, new ones start at zero."""
    old = {item: code for code, item in enumerate(parent.item_ids)}
    source = np.array([old.get(item, -1) for item in item_ids], np.int64)
    kept = source >= 0
    seen = np.zeros(len(item_ids), np.bool_)
    seen[kept] = parent.model.seen.numpy()[source[kept]]
    network = SequenceModel(parent.model.shape, torch.from_numpy(text_IE.astype(np.float32)), torch.from_numpy(seen))
    own = {"ids", "text", "seen"}
    network.load_state_dict({n: t for n, t in parent.model.state_dict().items() if n not in own}, strict=False)
    with torch.no_grad():
        network.ids.zero_()
        network.ids[torch.from_numpy(kept)] = parent.model.ids[torch.from_numpy(source[kept])]
    return network
