"""The average of weights: of the steps so far at first, exponential later, and never a change of the model itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from endcap.training.averaging import WeightAverage


def _set(model: nn.Linear, value: float) -> None:
    with torch.no_grad():
        model.weight.fill_(value)


def test_the_average_follows_the_steps_and_is_only_lent() -> None:
    model = nn.Linear(1, 1, bias=False)
    _set(model, 0.0)
    average = WeightAverage(model, 0.5)
    for value in (1.0, 2.0, 3.0):
        _set(model, value)
        average.update(model)
    expected = 0.0
    for step, value in enumerate((1.0, 2.0, 3.0), start=1):
        kept = min(0.5, step / (step + 9))
        expected = kept * expected + (1 - kept) * value
    with average.in_place(model):
        assert model.weight.item() == pytest.approx(expected)
    assert model.weight.item() == 3.0


def test_without_decay_nothing_is_kept() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, 0.0)
    average.update(model)
    _set(model, 7.0)
    with average.in_place(model):
        assert model.weight.item() == 7.0
    assert not average.weights
