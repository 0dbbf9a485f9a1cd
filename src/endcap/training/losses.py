"""What the sequential model minimises: each answer against items that were not taken.

- `softmax`: against every item seen in training. Exact, and affordable for small catalogues.
- `sampled`: against `negatives` items drawn once a step and shared by all its questions (sampled softmax; Klenitskiy and
  Vasilev, RecSys 2023). `logq` corrects the draw's probabilities (Bengio & Senécal 2008).
- `gbce`: binary cross-entropy with the positive part tempered by the sampling rate (gSASRec; Petrov & Macdonald, RecSys 2023).

Shapes: Q questions, A answers at most, N negatives, D dimensions, I items.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

FAR_BELOW = -1e9
GBCE_CALIBRATION = 0.75  # t of the paper: 0 is plain binary cross-entropy, 1 is fully calibrated


@dataclass(frozen=True, slots=True)
class Objective:
    """Which loss, and against what."""

    loss: str = "sampled"  # softmax | sampled | gbce
    negatives: int = 1024
    sampling: str = "uniform"  # uniform | popularity (counts in training to the power of 3/4)
    logq: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Negatives:
    """What the answers of a step are held against."""

    codes: Tensor  # (N,) ascending, distinct
    shift: Tensor | None  # (N,) added to their logits, see `logq`
    rate: float  # N / I

    def to(self, device: torch.device) -> Negatives:
        """The same draw on a device."""
        return Negatives(self.codes.to(device), None if self.shift is None else self.shift.to(device), self.rate)

    def over(self, codes_N: Tensor) -> Negatives:
        """The same draw as places in `codes_N` (ascending), which holds them all."""
        return Negatives(torch.searchsorted(codes_N, self.codes), self.shift, self.rate)

    @classmethod
    def draw(cls, objective: Objective, counts_I: npt.NDArray[np.int64], rng: np.random.Generator) -> Negatives:
        """`counts_I`: how often each item was an answer in training; items never seen are no negatives."""
        seen = np.flatnonzero(counts_I)
        size = len(seen)
        if objective.loss == "softmax" or objective.negatives >= size:
            return cls(torch.from_numpy(seen), None, 1.0)
        if objective.sampling == "uniform":
            codes = np.unique(seen[rng.integers(0, size, objective.negatives)])
            shift = torch.full((len(codes),), float(np.log(size / len(codes)))) if objective.logq else None
            return cls(torch.from_numpy(codes), shift, len(codes) / size)
        chance = counts_I[seen] ** 0.75
        chance = chance / chance.sum()
        drawn = np.unique(rng.choice(size, objective.negatives, p=chance))
        expected = -np.expm1(objective.negatives * np.log1p(-chance[drawn]))  # chance of being among the distinct ones
        shift = torch.from_numpy(-np.log(expected).astype(np.float32)) if objective.logq else None
        return cls(torch.from_numpy(seen[drawn]), shift, len(drawn) / size)


def answer_losses(
    objective: Objective, queries_QD: Tensor, items_ID: Tensor, answers_QA: Tensor, negatives: Negatives
) -> Tensor:
    """(Q, A) the loss of each answer against the negatives, less those that are answers of the same question."""
    positive = (queries_QD[:, None, :] * functional.embedding(answers_QA, items_ID)).sum(dim=2).float()
    logits = (queries_QD @ functional.embedding(negatives.codes, items_ID).T).float()
    if negatives.shift is not None:
        logits = logits + negatives.shift
    place = torch.searchsorted(negatives.codes, answers_QA).clamp(max=len(negatives.codes) - 1)
    clash = negatives.codes[place] == answers_QA  # the others point at a place that is set back to its own value
    rows = torch.arange(len(logits), device=logits.device).unsqueeze(1).expand_as(place)[clash]
    logits = logits.index_put((rows, place[clash]), logits.new_tensor(FAR_BELOW))
    if objective.loss != "gbce":
        return functional.softplus(torch.logsumexp(logits, dim=1, keepdim=True) - positive)
    start = math.log(len(negatives.codes) / negatives.rate)  # scores of 0 mean that each of I items is as likely: 1 in I
    positive, logits = positive - start, logits - start
    beta = negatives.rate * (GBCE_CALIBRATION * (1 - 1 / negatives.rate) + 1 / negatives.rate)
    return beta * functional.softplus(-positive) + functional.softplus(logits).sum(dim=1, keepdim=True)
