"""Calibration maps: they mend what is off, keep the order, and keep still where little is known."""

from __future__ import annotations

import numpy as np
import pytest

from endcap.evaluation.calibration import calibration_error
from endcap.models.behaviour.calibration import CalibrationMap, log_odds, sigmoid
from endcap.training.behaviour.calibration import KINDS, choose_map, fit_map, surely_positive


def _off(slope: float, offset: float, rows: int = 6000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Raw probabilities, what happened, and the truth; truth = sigmoid(slope · raw log-odds + offset)."""
    random = np.random.default_rng(3)
    raw = sigmoid(random.normal(-1, 1, rows))
    truth = sigmoid(slope * log_odds(raw) + offset)
    return raw, (random.random(rows) < truth).astype(float), truth


@pytest.mark.parametrize(("slope", "offset"), [(0.5, 0.0), (2.0, 0.0), (1.0, -1.0), (0.6, 0.5)])
def test_a_chosen_map_mends_slope_and_offset(slope: float, offset: float) -> None:
    raw, happened, truth = _off(slope, offset)
    mended = choose_map(raw, happened)(raw)
    assert calibration_error(mended, truth) < 0.02
    assert calibration_error(mended, truth) < 0.4 * calibration_error(raw, truth)


def test_what_is_not_a_curve_of_log_odds_gets_steps() -> None:
    random = np.random.default_rng(0)
    raw = random.random(8000)
    truth = np.where(raw < 0.5, 0.1, 0.6)
    found = choose_map(raw, (random.random(8000) < truth).astype(float))
    assert found.kind == "isotonic"
    assert calibration_error(found(raw), truth) < 0.03


@pytest.mark.parametrize("kind", KINDS)
def test_a_map_keeps_the_order_and_stays_a_probability(kind: str) -> None:
    raw, happened, _ = _off(0.7, 0.3, 500)
    mapped = fit_map(kind, raw, happened)(np.linspace(0, 1, 101))  # type: ignore[arg-type]
    assert (np.diff(mapped) >= 0).all()
    assert ((mapped >= 0) & (mapped <= 1)).all()


@pytest.mark.parametrize("happened", [np.zeros(300), np.ones(300), (np.arange(300) < 5).astype(float)])
def test_few_events_change_nothing(happened: np.ndarray) -> None:
    raw = np.linspace(0.1, 0.9, 300)
    assert choose_map(raw, happened).kind == "identity"
    assert CalibrationMap()(raw).tolist() == raw.tolist()


def test_a_map_that_a_few_slates_alone_ask_for_is_not_taken() -> None:
    """Forty slates of ten rows, all acted on or none: as rows they seem to say much, as slates they say little."""
    random = np.random.default_rng(0)
    slates = np.repeat(np.arange(40), 10)
    happened = np.repeat((random.permutation(40) < 14).astype(float), 10)
    raw = np.clip(0.2 + random.normal(0, 0.02, 400), 0.01, 0.99)
    assert choose_map(raw, happened).kind != "identity"
    assert choose_map(raw, happened, slates).kind == "identity"


def test_many_slates_ask_for_it_too() -> None:
    raw, happened, truth = _off(0.5, 0.8)
    mended = choose_map(raw, happened, np.arange(len(raw)) // 10)(raw)
    assert calibration_error(mended, truth) < 0.4 * calibration_error(raw, truth)


def test_a_sum_is_sure_by_its_groups() -> None:
    values = np.concatenate([np.ones(50), -np.ones(30)])
    assert surely_positive(values)
    assert not surely_positive(values, np.array(["a"] * 50 + ["b"] * 30))
    assert not surely_positive(np.zeros(10))
