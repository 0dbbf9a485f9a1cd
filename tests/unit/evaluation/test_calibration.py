"""Errors of probabilities against figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from endcap.errors import InputError
from endcap.evaluation.calibration import (
    assign_bins,
    brier_scores,
    calibration_error,
    error_by_chance,
    log_losses,
    reliability,
    wilson,
)


def test_a_perfect_forecaster_has_no_error_and_a_shifted_one_has_the_shift() -> None:
    chances = np.linspace(0.05, 0.85, 1000)
    for binning in ("equal_mass", "equal_width"):
        assert calibration_error(chances, chances, binning) == 0
        assert calibration_error(chances + 0.1, chances, binning) == pytest.approx(0.1)


def test_the_error_is_weighed_by_the_rows_of_a_bin() -> None:
    chances = np.array([0.15] * 3 + [0.95])
    happened = np.array([0, 0, 1, 0])
    assert calibration_error(chances, happened, "equal_width") == pytest.approx(0.75 * abs(1 / 3 - 0.15) + 0.25 * 0.95)


def test_sharper_is_better_only_when_right() -> None:
    happened = np.array([1.0, 0.0])
    right, unsure, wrong = np.array([0.9, 0.1]), np.array([0.5, 0.5]), np.array([0.1, 0.9])
    for score in (log_losses, brier_scores):
        assert score(right, happened).mean() < score(unsure, happened).mean() < score(wrong, happened).mean()
    assert np.isfinite(log_losses(np.array([0.0, 1.0]), np.array([1.0, 0.0]))).all()


def test_equal_probabilities_share_a_bin() -> None:
    chances = np.array([0.1] * 50 + [0.2] * 50)
    assert len(set(assign_bins(chances))) == 2
    assert len(reliability(np.full(30, 0.3), np.arange(30) % 2)) == 1


def test_bins_of_equal_mass_hold_as_many() -> None:
    counts = np.bincount(assign_bins(np.random.default_rng(0).random(1000)))
    assert counts.tolist() == [100] * 10


def test_the_table_has_the_rate_and_its_interval() -> None:
    table = reliability(np.repeat([0.2, 0.7], 10), np.r_[np.ones(3), np.zeros(7), np.ones(6), np.zeros(4)])
    assert table["happened"].tolist() == [0.3, 0.6]
    assert ((table["low"] < table["happened"]) & (table["happened"] < table["high"])).all()
    assert wilson(np.array([1.0]), np.array([10]))[1][0] == 1.0


@pytest.mark.parametrize("chances", [[], [0.5, 0.5], [1.2], [np.nan]])
def test_what_is_no_forecast_is_refused(chances: list[float]) -> None:
    with pytest.raises(InputError, match="chances"):
        calibration_error(np.array(chances), np.array([1.0]))


def test_the_error_by_chance_is_that_of_true_probabilities() -> None:
    rng = np.random.default_rng(0)
    chances = rng.beta(2, 5, 700)
    drawn = [calibration_error(chances, rng.random(700) < chances) for _ in range(300)]
    assert error_by_chance(chances) == pytest.approx(np.mean(drawn), rel=0.05)


def test_the_error_by_chance_of_slates_that_go_together_is_larger() -> None:
    """Chances are true, yet a slate's rows happen together: as often as drawn, not as if each row were drawn by itself."""
    rng = np.random.default_rng(1)
    slates = np.repeat(np.arange(70), 10)
    chances = np.repeat(rng.beta(2, 5, 70), 10)
    drawn, told = [], []
    for _ in range(200):
        happened = np.repeat(rng.random(70) < chances[::10], 10)
        drawn.append(calibration_error(chances, happened))
        told.append(error_by_chance(chances, happened, slates))
    assert np.mean(told) == pytest.approx(np.mean(drawn), rel=0.15)
    assert np.mean(told) > 2 * error_by_chance(chances)
    alone = [error_by_chance(chances, rng.random(700) < chances, np.arange(700)) for _ in range(50)]
    assert np.mean(alone) == pytest.approx(error_by_chance(chances), rel=0.05)
