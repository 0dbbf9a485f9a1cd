"""Learn the blend's weights on periods that its parts have not learnt: a softmax over candidates, answers against the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from endcap.models.blend import BlendedRecommender
from endcap.models.history import Floats, History, encode
from endcap.models.signals import DENSE, SIGNALS, context

TOP = 100  # candidates: the best of each dense signal, everything the shopper touched, the answers, and some at random
RANDOM = 100
STEPS = 60
RIDGE = 0.003  # pull towards the weights one started from


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """For each of U shoppers the signals of K candidates. Padding has `mask` false."""

    signals: Floats  # (U, K, S)
    context: Floats  # (U, C)
    answers: npt.NDArray[np.bool_]  # (U, K)
    mask: npt.NDArray[np.bool_]  # (U, K)


def make_examples(
    model: BlendedRecommender, histories: Sequence[History], taken: Sequence[Sequence[str]], now: object, seed: int
) -> list[tuple[Floats, Floats, npt.NDArray[np.bool_]]]:
    """One (signals (K, S), context (C,), answers (K,)) for each shopper that took an item the model knows."""
    rng = np.random.default_rng(seed)
    index = {item: code for code, item in enumerate(model.item_ids)}
    examples = []
    for begin in range(0, len(histories), 64):
        part = histories[begin : begin + 64]
        batch = encode(part, index, now)  # type: ignore[arg-type]
        dense, own = model.signals(batch)
        whole = {name: np.broadcast_to(dense[name], (len(part), len(index))) for name in DENSE}
        about = context(batch)
        for row, got in enumerate(taken[begin : begin + 64]):
            answers = np.array([index[item] for item in got if item in index], np.int64)
            if not len(answers):
                continue
            mine = own.rows == row
            pool = [answers, own.codes[mine], rng.integers(0, len(index), RANDOM)]
            pool += [np.argpartition(-whole[name][row], min(TOP, len(index) - 1))[:TOP] for name in DENSE]
            codes = np.unique(np.concatenate(pool))
            signals = np.zeros((len(codes), len(SIGNALS)), np.float32)
            for place, name in enumerate(DENSE):
                signals[:, place] = whole[name][row, codes]
            signals[np.searchsorted(codes, own.codes[mine]), len(DENSE) :] = own.values[mine]
            examples.append((signals, about[row], np.isin(codes, answers)))
    return examples


def pack(examples: Sequence[tuple[Floats, Floats, npt.NDArray[np.bool_]]]) -> Examples:
    """Pad to the longest list of candidates."""
    width = max(len(signals) for signals, _, _ in examples)
    signals = np.zeros((len(examples), width, len(SIGNALS)), np.float32)
    answers, mask = np.zeros((len(examples), width), np.bool_), np.zeros((len(examples), width), np.bool_)
    for row, (values, _, right) in enumerate(examples):
        signals[row, : len(values)], answers[row, : len(values)], mask[row, : len(values)] = values, right, True
    return Examples(signals, np.stack([about for _, about, _ in examples]), answers, mask)


def learn_weights(examples: Examples, start: Floats, ridge: float = RIDGE, steps: int = STEPS) -> Floats:
    """(S, C) weights that minimise the listwise loss; each shopper counts the same."""
    signals, about = torch.from_numpy(examples.signals), torch.from_numpy(examples.context)
    answers, mask = torch.from_numpy(examples.answers).float(), torch.from_numpy(examples.mask)
    share = answers / answers.sum(dim=1, keepdim=True)
    origin = torch.from_numpy(start.copy())
    weights = origin.clone().requires_grad_(True)
    scale = (signals * mask[..., None]).pow(2).sum(dim=(0, 1)).div(mask.sum()).sqrt().clamp(min=1e-3)[:, None]
    optimiser = torch.optim.LBFGS([weights], lr=1.0, max_iter=steps, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        scores = torch.einsum("uks,us->uk", signals, about @ weights.T).masked_fill(~mask, -1e9)
        value = -(share * torch.log_softmax(scores, dim=1)).sum(dim=1).mean()
        value = value + ridge * ((weights - origin) * scale).pow(2).sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    learnt = weights.detach().numpy()
    return learnt if np.isfinite(learnt).all() else start
