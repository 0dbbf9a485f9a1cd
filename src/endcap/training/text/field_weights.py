"""How much each field of the items' texts counts, learnt from items that one shopper took in a row.

A vector is that of the whole text plus each field's by its weight. At weight 0 it is the whole text's alone, so the fields
have to earn what they get: by how well a pair of texts finds itself among the other pairs (InfoNCE, as in
text/objectives.py), in the directions that whitening will count alike, on pairs that were held out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from endcap.data.item_text import BREAK, field_of, one_line
from endcap.models.text.space import TextSpace
from endcap.models.text.vector_cache import Floats
from endcap.models.text.whitening import fit_whitening

Ints = npt.NDArray[np.int64]
STEPS = 200
PAIRS = 512  # a step
LEARNING_RATE = 0.05
HELD_OUT = 5  # every fifth pair judges
MIN_PAIRS = 100
START = -3.0  # of a weight, before softplus: .05
TEMPERATURE = 0.1  # where it starts


def weigh_fields(
    space: TextSpace, texts: Sequence[str], pairs_P2: Ints, encode: Callable[[list[str]], Floats], seed: int, *, whitened: bool
) -> TextSpace:
    """`space` with the weights that serve it, or as it is: texts of one field, too few pairs, or nothing gained.

    Args:
        texts: T distinct ones, their fields a line each.
        pairs_P2: which of them a shopper took in a row.
        encode: plain texts to raw vectors of this space (T, E).
        whitened: whether the vectors will be.
    """
    count = max((text.count(BREAK) + 1 for text in texts), default=0)
    fields = [[field_of(text, place) for text in texts] for place in range(count)]
    if len(pairs_P2) < MIN_PAIRS or sum(any(field) for field in fields) < 2:
        return space
    whole_TE = encode([one_line(text) for text in texts])
    fields_FTE = np.stack([encode(field) for field in fields])
    weights = learn_weights(whole_TE, fields_FTE, pairs_P2, seed, whitened=whitened)
    return replace(space, field_weights=weights)


def learn_weights(whole_TE: Floats, fields_FTE: Floats, pairs_P2: Ints, seed: int, *, whitened: bool) -> tuple[float, ...]:
    """(F,) weights of the fields beside the whole; none where they are no better on the held-out pairs than the whole alone."""
    parts_PTD = _projected(np.concatenate([whole_TE[None], fields_FTE]), whitened)
    order = np.random.default_rng(seed).permutation(len(pairs_P2))
    judging, learning = pairs_P2[order[::HELD_OUT]], np.delete(pairs_P2[order], np.s_[::HELD_OUT], axis=0)
    alone, _ = _learn(parts_PTD[:1], learning, judging, seed)
    together, weights = _learn(parts_PTD, learning, judging, seed)
    return tuple(round(float(weight), 4) for weight in weights) if together < alone else ()


def _projected(parts_PTE: Floats, whitened: bool) -> Tensor:
    """Each part around its own mean, in the directions that whitening makes of the whole's; zero where a field is empty."""
    whitening = fit_whitening(parts_PTE[0]) if whitened else None
    there_PT = np.asarray(parts_PTE.any(axis=2))
    means_P1E = parts_PTE.sum(axis=1, keepdims=True) / np.maximum(there_PT.sum(axis=1), 1)[:, None, None]
    centred = (parts_PTE - means_P1E) * there_PT[:, :, None]
    return torch.from_numpy(np.asarray(centred @ whitening.projection if whitening else centred, np.float32))


def _learn(parts_PTD: Tensor, learning: Ints, judging: Ints, seed: int) -> tuple[float, Tensor]:
    """(loss on the judging pairs, weights of all parts but the first)."""
    random = np.random.default_rng([seed, 1])
    raw = torch.full((len(parts_PTD) - 1,), START, requires_grad=True)
    cold = torch.full((), float(np.log(TEMPERATURE)), requires_grad=True)
    optimiser = torch.optim.Adam([raw, cold], LEARNING_RATE)
    for _ in range(STEPS):
        chosen = learning[random.choice(len(learning), min(PAIRS, len(learning)), replace=False)]
        optimiser.zero_grad()
        _contrast(parts_PTD, functional.softplus(raw), cold.exp(), chosen).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    with torch.no_grad():
        weights = functional.softplus(raw)
        blocks = [judging[begin : begin + PAIRS] for begin in range(0, len(judging), PAIRS)]
        losses = [float(_contrast(parts_PTD, weights, cold.exp(), block)) * len(block) for block in blocks]
    return sum(losses) / len(judging), weights


def _contrast(parts_PTD: Tensor, weights: Tensor, temperature: Tensor, pairs_B2: Ints) -> Tensor:
    """InfoNCE in both directions; a text is no negative of itself."""
    left, right = torch.from_numpy(pairs_B2).T
    scale = torch.cat([weights.new_ones(1), weights])

    def vectors(rows: Tensor) -> Tensor:
        return functional.normalize((parts_PTD[:, rows] * scale[:, None, None]).sum(dim=0), dim=1)

    scores_BB = vectors(left) @ vectors(right).T / temperature
    clash_BB = (left[:, None] == left) | (right[:, None] == right) | (left[:, None] == right)
    clash_BB.fill_diagonal_(False)
    scores_BB = scores_BB.masked_fill(clash_BB, float("-inf"))
    answers = torch.arange(len(pairs_B2))
    return (functional.cross_entropy(scores_BB, answers) + functional.cross_entropy(scores_BB.T, answers)) / 2
