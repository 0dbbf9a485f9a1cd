"""The behaviour head finds known probabilities, and says so where there is nothing to find."""

from __future__ import annotations

import numpy as np
import pytest

from endcap.errors import InputError, TrainingError
from endcap.evaluation.calibration import calibration_error, log_losses
from endcap.models.behaviour.calibration import sigmoid
from endcap.models.behaviour.features import Features
from endcap.training.behaviour.head import HeadOptions, fit_head

ROWS = 6000
QUICK = (HeadOptions(hidden=0, decay=10.0, epochs=10, batch_size=128),)


def _shop(rows: int = ROWS, base: float = -1.0) -> tuple[Features, np.ndarray, np.ndarray]:
    """Features, outcomes, true probabilities: likes decide clicks, prices purchases, places fade."""
    random = np.random.default_rng(1)
    likes, price, rank = random.normal(size=rows), random.normal(size=rows), random.integers(1, 11, rows).astype(float)
    click = sigmoid(base + likes - 0.8 * np.log(rank))
    bought = sigmoid(-0.5 - price)
    clicked = random.random(rows) < click
    purchased = clicked & (random.random(rows) < bought)
    values = np.stack([likes, price, np.log(rank), rank, random.normal(size=rows)], axis=1)
    features = Features(("likes", "price", "log_rank", "rank", "noise"), values)
    return features, np.stack([clicked, purchased], axis=1).astype(float), np.stack([click, click * bought], axis=1)


def _older(rows: int, share: float = 0.6) -> np.ndarray:
    return np.arange(rows) < share * rows


def test_it_finds_the_true_probabilities() -> None:
    features, outcomes, truth = _shop()
    head = fit_head(features, outcomes, _older(ROWS), candidates=QUICK)
    found = head.chances(features)
    assert head.tasks["click"].by == head.tasks["purchase"].by == "head"
    for task, chances in enumerate((found.click, found.purchase)):
        assert calibration_error(chances, truth[:, task]) < 0.02
        assert np.corrcoef(chances, truth[:, task])[0, 1] > 0.95
        rate = np.full(ROWS, outcomes[:, task].mean())
        assert log_losses(chances, outcomes[:, task]).mean() < 0.95 * log_losses(rate, outcomes[:, task]).mean()
    assert (found.purchase <= found.click).all()


def test_items_can_be_compared_at_one_place() -> None:
    features, outcomes, _ = _shop()
    head = fit_head(features, outcomes, _older(ROWS), candidates=QUICK)
    first, tenth = head.chances(features, at_rank=1).click, head.chances(features, at_rank=10).click
    assert (first > 1.5 * tenth).mean() > 0.9
    moved = features.values.copy()
    moved[:, 2:4] = [np.log(7.0), 7.0]
    np.testing.assert_allclose(head.chances(Features(features.names, moved), at_rank=1).click, first)


def test_the_same_seed_gives_the_same_head() -> None:
    features, outcomes, _ = _shop(1500)
    tried = (HeadOptions(hidden=4, decay=10.0, epochs=2),)
    one, two = (fit_head(features, outcomes, _older(1500), seed=3, candidates=tried) for _ in range(2))
    np.testing.assert_array_equal(one.hidden, two.hidden)
    assert one.facts == two.facts


@pytest.mark.parametrize("everything", [0.0, 1.0])
def test_one_class_gives_its_rate_and_says_so(everything: float) -> None:
    features, outcomes, _ = _shop(400)
    head = fit_head(features, np.full_like(outcomes, everything), _older(400), candidates=QUICK)
    found = head.chances(features)
    assert len(np.unique(found.click)) == 1
    assert abs(found.click[0] - everything) < 0.01
    assert head.tasks["click"].by == "rate"
    assert "rarer click outcome" in head.tasks["click"].reason


def test_few_purchases_follow_the_clicks_at_one_rate() -> None:
    features, outcomes, _ = _shop()
    outcomes[np.flatnonzero(outcomes[:, 1])[9:], 1] = 0
    head = fit_head(features, outcomes, _older(ROWS), candidates=QUICK)
    raw = head.raw_chances(features)
    assert (head.tasks["click"].by, head.tasks["purchase"].by) == ("head", "rate")
    np.testing.assert_allclose(raw.purchase / raw.click, (raw.purchase / raw.click)[0])
    assert raw.purchase.mean() < 0.01


def test_noise_alone_gives_one_rate() -> None:
    random = np.random.default_rng(5)
    outcomes = np.repeat((random.random((2000, 1)) < 0.1).astype(float), 2, axis=1)
    outcomes[:, 1] = 0
    head = fit_head(Features(("noise",), random.normal(size=(2000, 1))), outcomes, _older(2000), candidates=QUICK)
    assert head.tasks["click"].by == "rate"
    assert "standard error" in head.tasks["click"].reason


def test_features_that_say_nothing_are_left_out_and_gaps_are_filled() -> None:
    features, outcomes, _ = _shop(2000)
    extra = np.stack([np.full(2000, np.nan), np.full(2000, 7.0)], axis=1)
    values = np.concatenate([features.values, extra], axis=1)
    values[::3, 0] = np.nan
    values[5, 1] = np.inf
    head = fit_head(Features((*features.names, "empty", "same"), values), outcomes, _older(2000), candidates=QUICK)
    assert head.facts["left_out"] == ["empty", "same"]
    chances = head.chances(Features((*features.names, "empty", "same"), np.full_like(values, np.nan)))
    assert np.isfinite(chances.click).all()
    nothing = fit_head(Features(("empty", "same"), extra), outcomes, _older(2000), candidates=QUICK)
    assert nothing.tasks["click"].by == "rate"


def test_what_cannot_be_learnt_from_is_refused() -> None:
    features, outcomes, _ = _shop(100)
    with pytest.raises(TrainingError, match="exposures"):
        fit_head(features, outcomes, np.ones(100, bool))
    with pytest.raises(TrainingError, match="exposures"):
        fit_head(features.rows(slice(0, 0)), outcomes[:0], np.ones(0, bool))
    with pytest.raises(TrainingError, match="outcomes"):
        fit_head(features, np.tile([0.0, 1.0], (100, 1)), _older(100))


def test_a_missing_feature_is_named() -> None:
    features, outcomes, _ = _shop(600)
    head = fit_head(features, outcomes, _older(600), candidates=QUICK)
    with pytest.raises(InputError, match="likes"):
        head.chances(Features(features.names[1:], features.values[:, 1:]))
