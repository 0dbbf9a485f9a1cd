"""Training windows made harder: a beginning cut off, items hidden, neighbours in time exchanged. Each a switch, off at 0.

After CL4SRec (Xie et al. 2022), but as plain augmentation without a contrastive loss. Answers are never changed, and a question
whose answer would come into view, or whose own event is cut off, is not asked in that pass. Shapes as in training/sequences.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from endcap.training.sequences import WindowBatch

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Augment:
    """How often."""

    crop: float = 0.0  # share of windows that lose a random beginning
    mask: float = 0.0  # share of events whose item is hidden; when and how it was touched stays
    reorder: float = 0.0  # share of neighbours in time that change places


def augment(batch: WindowBatch, how: Augment, rng: np.random.Generator) -> WindowBatch:
    """The batch, changed. What is off draws nothing from `rng` and costs nothing."""
    if how.crop:
        batch = crop(batch, how.crop, rng)
    if how.reorder:
        batch = reorder(batch, how.reorder, rng)
    if how.mask:
        batch = replace(batch, shown=torch.from_numpy(rng.random(batch.codes.shape) >= how.mask))
    return batch


def crop(batch: WindowBatch, share: float, rng: np.random.Generator) -> WindowBatch:
    """Some windows lose their first events, up to any but the one of their last question; earlier questions go with them."""
    last = torch.zeros(len(batch.codes), dtype=torch.long)
    last = last.scatter_reduce(0, batch.rows, batch.places.clamp(min=0), "amax")
    lost = torch.from_numpy(rng.random(len(last))) * (last + 1)
    lost = lost.long() * torch.from_numpy(rng.random(len(last)) < share)
    valid = batch.valid & (torch.arange(batch.codes.shape[1]) >= lost[:, None])
    return _asking(replace(batch, valid=valid), (batch.places < 0) | (batch.places >= lost[batch.rows]))


def reorder(batch: WindowBatch, share: float, rng: np.random.Generator) -> WindowBatch:
    """Neighbours of two moments exchange item and type; a question between the two would see its answer, so it goes."""
    chosen = torch.from_numpy(rng.random((len(batch.codes), batch.codes.shape[1] - 1)) < share)
    chosen &= (batch.days[:, 1:] > batch.days[:, :-1]) & batch.valid[:, 1:] & batch.valid[:, :-1]
    for later in range(1, chosen.shape[1]):  # nothing moves twice
        chosen[:, later] &= ~chosen[:, later - 1]
    row, place = chosen.nonzero(as_tuple=True)
    order = torch.arange(batch.codes.shape[1]).repeat(len(batch.codes), 1)
    order[row, place], order[row, place + 1] = place + 1, place
    between = torch.zeros_like(batch.valid)
    between[row, place] = True
    moved = replace(batch, codes=batch.codes.gather(1, order), kinds=batch.kinds.gather(1, order))
    return _asking(moved, (batch.places < 0) | ~between[batch.rows, batch.places.clamp(min=0)])


def _asking(batch: WindowBatch, kept: Tensor) -> WindowBatch:
    """Only these of the questions."""
    return replace(
        batch,
        rows=batch.rows[kept],
        places=batch.places[kept],
        gap_days=batch.gap_days[kept],
        occasions=batch.occasions[kept],
        answers=batch.answers[kept],
        answered=batch.answered[kept],
    )
