"""Each loss by hand on tiny numbers, and which items the answers are held against."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from endcap.training.losses import GBCE_CALIBRATION, Negatives, Objective, answer_losses

# One shopper, who scores items 0 to 3 with 0, 1, 2 and 3.
QUERY, ITEMS = torch.tensor([[1.0]]), torch.tensor([[0.0], [1.0], [2.0], [3.0]])


def against(objective: Objective, codes: list[int], answer: list[int], shift: list[float] | None = None) -> list[float]:
    rate = len(codes) / 4
    negatives = Negatives(torch.tensor(codes), None if shift is None else torch.tensor(shift), rate)
    return answer_losses(objective, QUERY, ITEMS, torch.tensor([answer]), negatives)[0].tolist()


def test_softmax_by_hand() -> None:
    whole = sum(math.exp(score) for score in range(4))
    expected = -math.log(math.exp(2) / whole)
    assert against(Objective("softmax"), [0, 1, 2, 3], [2]) == pytest.approx([expected], abs=1e-6)


def test_sampled_softmax_by_hand() -> None:
    expected = -math.log(math.exp(2) / (math.exp(2) + math.exp(0) + math.exp(3)))
    assert against(Objective("sampled"), [0, 3], [2]) == pytest.approx([expected], abs=1e-6)


def test_a_shift_is_added_to_negatives_alone() -> None:
    expected = -math.log(math.exp(2) / (math.exp(2) + 5 * math.exp(0) + 7 * math.exp(3)))
    found = against(Objective("sampled", logq=True), [0, 3], [2], [math.log(5), math.log(7)])
    assert found == pytest.approx([expected], abs=1e-6)


def test_gbce_by_hand() -> None:
    rate = 0.5
    beta = rate * (GBCE_CALIBRATION * (1 - 1 / rate) + 1 / rate)
    items = 2 / rate
    sigmoid = [1 / (1 + items * math.exp(-score)) for score in range(4)]  # a score of 0 is 1 in so many, nearly
    expected = -beta * math.log(sigmoid[2]) - math.log(1 - sigmoid[0]) - math.log(1 - sigmoid[3])
    assert against(Objective("gbce"), [0, 3], [2]) == pytest.approx([expected], abs=1e-5)


@pytest.mark.parametrize("loss", ["softmax", "sampled", "gbce"])
def test_no_answer_is_its_questions_own_negative(loss: str) -> None:
    """Several answers: each is held against what was not taken, not against one another."""
    objective = Objective(loss)
    alone = against(objective, [0, 1], [2])
    assert against(objective, [0, 1, 2], [2]) == pytest.approx(alone if loss != "gbce" else gbce_of(2, [0, 1], 0.75))
    both = against(objective, [0, 1, 2, 3], [2, 3])
    assert both[0] == pytest.approx(alone[0] if loss != "gbce" else gbce_of(2, [0, 1], 1.0)[0])


def gbce_of(answer: int, negatives: list[int], rate: float) -> list[float]:
    beta = rate * (GBCE_CALIBRATION * (1 - 1 / rate) + 1 / rate)
    start = math.log(len(ITEMS))
    return [beta * math.log1p(math.exp(start - answer)) + sum(math.log1p(math.exp(score - start)) for score in negatives)]


def test_a_clash_changes_no_other_question() -> None:
    queries, negatives = QUERY.expand(2, 1), Negatives(torch.tensor([1, 2]), None, 0.5)
    together = answer_losses(Objective(), queries, ITEMS, torch.tensor([[2], [3]]), negatives)
    assert together[1].tolist() == pytest.approx(against(Objective(), [1, 2], [3]))
    assert together[0].tolist() == pytest.approx(against(Objective(), [1], [2]))


COUNTS = np.array([0, 1, 2, 0, 4, 8, 100, 3], np.int64)


@pytest.mark.parametrize("sampling", ["uniform", "popularity"])
@pytest.mark.parametrize("logq", [True, False])
def test_negatives_were_seen_and_come_once(sampling: str, logq: bool) -> None:
    for seed in range(20):
        drawn = Negatives.draw(Objective("sampled", 4, sampling, logq), COUNTS, np.random.default_rng(seed))
        codes = drawn.codes.numpy()
        assert (np.diff(codes) > 0).all()
        assert (COUNTS[codes] > 0).all()
        assert 1 <= len(codes) <= 4
        assert drawn.rate == pytest.approx(len(codes) / 6)
        assert (drawn.shift is not None) == logq


@pytest.mark.parametrize("objective", [Objective("softmax", 2), Objective("sampled", 6, "popularity", logq=True)])
def test_all_seen_items_where_that_is_asked_or_no_more(objective: Objective) -> None:
    drawn = Negatives.draw(objective, COUNTS, np.random.default_rng(0))
    assert drawn.codes.tolist() == [1, 2, 4, 5, 6, 7]
    assert (drawn.shift, drawn.rate) == (None, 1.0)


@pytest.mark.parametrize("sampling", ["uniform", "popularity"])
def test_with_logq_a_draw_estimates_the_whole_sum(sampling: str) -> None:
    """The mean over draws of the sum of exp(score + shift) is the sum over all seen items."""
    scores = np.linspace(-1, 1, len(COUNTS))
    rng, sums = np.random.default_rng(0), []
    for _ in range(4000):
        drawn = Negatives.draw(Objective("sampled", 3, sampling, logq=True), COUNTS, rng)
        assert drawn.shift is not None
        sums.append(np.exp(scores[drawn.codes.numpy()] + drawn.shift.numpy()).sum())
    assert np.mean(sums) == pytest.approx(np.exp(scores[COUNTS > 0]).sum(), rel=0.06)


def test_popular_items_are_drawn_more_often_by_popularity() -> None:
    rng = np.random.default_rng(0)
    drawn = [Negatives.draw(Objective("sampled", 2, "popularity"), COUNTS, rng).codes.numpy() for _ in range(300)]
    often = np.bincount(np.concatenate(drawn), minlength=len(COUNTS))
    assert often[6] > 2 * often[5] > 2 * often[1] > 0
