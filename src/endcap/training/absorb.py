"""Learn the newest days into a model that has not seen them: the last step of a full fit, and the heart of an update."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from endcap.data.features import Interactions, to_microseconds
from endcap.models.blend import BlendedRecommender
from endcap.models.history import MICROSECONDS_PER_DAY
from endcap.models.model_files import quantise
from endcap.progress import Progress, silent
from endcap.training.counting import recount
from endcap.training.options import FitOptions
from endcap.training.schedule import Curve
from endcap.training.sequences import Sequences, make_sequences
from endcap.training.trainer import train


def absorb(
    model: BlendedRecommender,
    interactions: Interactions,
    start: datetime,
    until: datetime,
    options: FitOptions,
    progress: Progress = silent,
    checkpoint_path: Path | None = None,
) -> Curve:
    """Learn the events of [start, until) in place, with `replay_ratio` old questions for each new one, and count anew."""
    known = interactions.known_at(until)
    seen = np.bincount(known.items, minlength=len(known.item_ids)) > 0
    network = model.model
    with torch.no_grad():
        network.ids[~network.seen] = 0
        network.seen.copy_(torch.from_numpy(seen))
    sequences = make_sequences(known, options.max_length)
    new = questions_from(sequences, start, known)
    curve = Curve()
    if len(new) and options.update_epochs:
        old = np.setdiff1d(np.arange(len(sequences.question_at)), new)
        rng = np.random.default_rng(options.seed)
        replayed = rng.choice(old, min(len(old), int(len(new) * options.replay_ratio)), replace=False)
        questions = np.sort(np.concatenate([new, replayed]))
        schedule = options.schedule(update=True)
        curve = train(network, sequences, questions, schedule, checkpoint_path=checkpoint_path, progress=progress)
    model.counts = recount(model.counts, interactions, until, options.recent_days)
    finish(model, until)
    model.items["seen_in_training"] = seen
    return curve


def questions_from(sequences: Sequences, start: datetime, known: Interactions) -> npt.NDArray[np.int64]:
    """The questions whose first answer came at or after `start`."""
    origin = int(known.times_us.min(initial=0))
    return np.flatnonzero(sequences.asked_days >= (to_microseconds(start) - origin) / MICROSECONDS_PER_DAY)


def finish(model: BlendedRecommender, until: datetime) -> None:
    """Put the network of a model that has learnt and counted up to `until` in the state it is saved in."""
    with torch.no_grad():
        model.model.ids[~model.model.seen] = 0
    quantise(model.model)
    model.refresh()
    model.config["trained_until"] = until.isoformat()
