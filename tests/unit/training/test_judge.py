"""How the trainer judges an epoch, by hand: which items are ranked, and what an answer at which place is worth."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from tests.unit.models.test_baselines import shop

from endcap.models.sequential import SequenceModel
from endcap.training.fitting import new_network
from endcap.training.options import FitOptions
from endcap.training.sequences import make_sequences
from endcap.training.trainer import judge

OPTIONS = FitOptions(dim=2, heads=1, max_length=8, precision="fp32")


class Fixed(SequenceModel):
    """Every shopper wants the same: item scores are the given ones."""

    def queries(self, state_QD: torch.Tensor, gap_days_Q: torch.Tensor, occasions_Q: torch.Tensor) -> torch.Tensor:
        return torch.tensor([1.0, 0.0]).expand(len(state_QD), 2)


def judged(rows: list[tuple[str, str, int]], scores: dict[str, float], unseen: str = "") -> tuple[float, float]:
    """(loss, NDCG) of each shopper's last question, with items of these scores."""
    known = shop(rows)
    network = new_network(known, np.zeros((len(known.item_ids), 0), np.float32), OPTIONS)
    network.__class__ = Fixed
    with torch.no_grad():
        network.ids.zero_()
        network.ids[:, 0] = torch.tensor([scores[str(item)] for item in known.item_ids])
        network.seen.copy_(torch.tensor([str(item) not in unseen for item in known.item_ids]))
    made = make_sequences(known, 8)
    last = np.flatnonzero(np.r_[made.question_window[1:] != made.question_window[:-1], True])
    return judge(network, made, last, dataclasses.replace(OPTIONS.schedule()))


SCORES = {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}
OTHERS = [("v", item, 30) for item in "abcd"]  # everything is bought by somebody, in one basket


def test_what_the_window_shows_is_not_ranked() -> None:
    loss, ndcg = judged([("u", "a", 20), ("u", "c", 3)], SCORES | {"b": -9.0, "d": -9.0})
    assert ndcg == 1.0  # before c comes only a, which the shopper has
    assert loss == pytest.approx(np.log(np.exp(4) + np.exp(2)) - 2, abs=1e-4)  # but the loss is over all


def test_an_answer_at_the_third_place() -> None:
    _, ndcg = judged([("u", "a", 20), ("u", "d", 3), *OTHERS], SCORES)
    basket = 1.0  # the other shopper takes all there is
    assert ndcg == pytest.approx((1 / np.log2(4) + basket) / 2)


def test_an_answer_that_was_bought_before_is_ranked() -> None:
    _, ndcg = judged([("u", "b", 20), ("u", "b", 3), *OTHERS], SCORES)
    assert ndcg == pytest.approx((1 / np.log2(3) + 1) / 2)


def test_items_unseen_in_training_are_neither_ranked_nor_asked() -> None:
    assert judged([("u", "b", 20), ("u", "c", 3), *OTHERS], SCORES, unseen="a")[1] == 1.0
    assert judged([("u", "b", 20), ("u", "a", 3)], SCORES, unseen="a") == (0.0, 0.0)


def test_the_same_questions_give_the_same_verdict_each_time() -> None:
    rows = [("u", "a", 20), ("u", "c", 3), *OTHERS]
    assert judged(rows, SCORES) == judged(rows, SCORES)
