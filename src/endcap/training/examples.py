"""Examples to learn a blend from: for each shopper of a period the signals of candidate items, and which of them were taken.

Candidates are the best of each signal, what the shopper touched, what was taken, and a random sample of all other items that
stands for all of them (its terms are multiplied up), so that a loss over candidates estimates that over the whole catalogue.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from endcap.models.blend import BlendedRecommender
from endcap.models.history import Floats, History, HistoryBatch, encode
from endcap.models.signals import DENSE, OWN, SIGNALS, context

TOP = 60  # of each dense signal
RANDOM = 60  # that stand for all other items
BATCH_NUMBERS = 5_000_000  # shoppers × items × signals that are held at once


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One shopper's K candidates."""

    signals: Floats  # (K, S)
    context: Floats  # (C,)
    taken: npt.NDArray[np.bool_]  # (K,)
    stands_for: Floats  # (K,) how many items of the catalogue each candidate stands for, as a logarithm
    codes: npt.NDArray[np.int64]  # (K,)
    ranked: Floats  # (K,) the second stage's scores


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """N candidates of U shoppers, flat."""

    signals: Tensor  # (N, S)
    context: Tensor  # (U, C)
    taken: Tensor  # (N,) 1 or 0
    stands_for: Tensor  # (N,) logarithm
    ranked: Tensor  # (N,)
    shopper: Tensor  # (N,) ascending


def make_examples(
    model: BlendedRecommender, histories: Sequence[History], taken: Sequence[Iterable[str]], now: datetime, seed: int
) -> list[Example]:
    """One example for each shopper that took an item the model knows."""
    rng = np.random.default_rng(seed)
    index = {item: code for code, item in enumerate(model.item_ids)}
    examples: list[Example] = []
    size = max(1, BATCH_NUMBERS // (len(index) * len(DENSE)))
    for begin in range(0, len(histories), size):
        batch = encode(histories[begin : begin + size], index, now)
        dense, own = model.signals(batch)
        stacked = np.stack([np.broadcast_to(dense[name], (batch.size, len(index))) for name in DENSE], axis=2)  # (B, I, D)
        about = context(batch)
        bounds = np.searchsorted(own.rows, np.arange(batch.size + 1))
        found: dict[int, Example] = {}
        for row, got in enumerate(taken[begin : begin + size]):
            answers = np.array([index[item] for item in got if item in index], np.int64)
            if len(answers):
                mine = np.arange(bounds[row], bounds[row + 1])
                found[row] = _example(stacked[row], own.codes[mine], own.values[mine], about[row], answers, rng)
        examples += _ranked(model, batch, dense, found)
    return examples


def _ranked(
    model: BlendedRecommender, batch: HistoryBatch, dense: dict[str, Floats], found: dict[int, Example]
) -> list[Example]:
    """The examples (by row of the batch) with what the second stage says of their candidates."""
    if not found:
        return []
    sizes = [len(example.codes) for example in found.values()]
    rows = np.repeat(np.array(list(found), np.int64), sizes)
    codes = np.concatenate([example.codes for example in found.values()])
    scores = np.split(model.rank_pairs(batch, dense, rows, codes), np.cumsum(sizes)[:-1])
    return [replace(example, ranked=own) for example, own in zip(found.values(), scores, strict=True)]


def _example(
    dense_ID: Floats,
    own_codes: npt.NDArray[np.int64],
    own: Floats,
    about: Floats,
    answers: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> Example:
    items = len(dense_ID)
    best = np.argpartition(-dense_ID, min(TOP, items) - 1, axis=0)[:TOP].ravel()
    chosen = np.unique(np.concatenate([answers, own_codes, best]))
    rest = np.setdiff1d(np.arange(items), chosen, assume_unique=True)
    drawn = rng.choice(rest, min(RANDOM, len(rest)), replace=False)
    codes = np.concatenate([chosen, drawn])
    signals = np.zeros((len(codes), len(SIGNALS)), np.float32)
    signals[:, : len(DENSE)] = dense_ID[codes]
    places = np.searchsorted(chosen, own_codes)
    signals[places, len(DENSE) : len(DENSE) + len(OWN)] = own
    stands_for = np.zeros(len(codes), np.float32)
    stands_for[len(chosen) :] = np.log(len(rest) / max(len(drawn), 1)) if len(drawn) else 0
    return Example(signals, about, np.isin(codes, answers), stands_for, codes, np.zeros(len(codes), np.float32))


def pack(examples: Sequence[Example]) -> Examples:
    """All candidates in one table."""
    lengths = [len(example.taken) for example in examples]
    return Examples(
        torch.from_numpy(np.concatenate([example.signals for example in examples])),
        torch.from_numpy(np.stack([example.context for example in examples])),
        torch.from_numpy(np.concatenate([example.taken for example in examples]).astype(np.float32)),
        torch.from_numpy(np.concatenate([example.stands_for for example in examples])),
        torch.from_numpy(np.concatenate([example.ranked for example in examples])),
        torch.from_numpy(np.repeat(np.arange(len(examples)), lengths)),
    )
