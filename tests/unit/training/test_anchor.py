"""The anchor draws weights back, and an update that is anchored stays nearer to its parent."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from tests.fixtures.tiny_model import START, UNTIL, tiny_catalog, tiny_events, tiny_text
from torch import nn

from endcap.data.features import interactions_from_events
from endcap.training.anchor import Anchor
from endcap.training.fitting import fit_full
from endcap.training.incremental import fit_update
from endcap.training.options import FitOptions

OPTIONS = FitOptions(
    dim=16, layers=1, heads=2, max_length=20, max_epochs=3, batch_size=32, seed=0, update_learning_rate=0.01, ema_decay=0.0
)


def test_a_step_goes_that_part_of_the_way_back() -> None:
    model = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(model.weight)
    anchor = Anchor(model, strength=5.0)
    nn.init.ones_(model.weight)
    anchor.draw(model, learning_rate=0.1)
    assert model.weight.tolist() == [[0.5, 0.5]]
    anchor.draw(model, learning_rate=1.0)  # never beyond
    assert model.weight.tolist() == [[0.0, 0.0]]


def test_without_strength_nothing_moves() -> None:
    model = nn.Linear(2, 1)
    before = model.weight.detach().clone()
    Anchor(model, 0.0).draw(model, 1.0)
    assert torch.equal(model.weight, before)


def test_an_anchored_update_stays_nearer_to_its_parent() -> None:
    shop = interactions_from_events(tiny_events(), list(tiny_catalog()["item_id"]))
    middle = START + (UNTIL - START) / 2
    parent = fit_full(shop, tiny_catalog(), tiny_text(), middle, OPTIONS).model
    moved = []
    for strength in (0.0, 5.0, 50.0):
        options = dataclasses.replace(OPTIONS, anchor=strength)
        updated = fit_update(parent, shop, tiny_catalog(), tiny_text(), middle, UNTIL, options).model
        pairs = zip(updated.model.parameters(), parent.model.parameters(), strict=True)
        moved.append(float(np.sqrt(sum((a - b).square().sum().item() for a, b in pairs))))
    assert moved == sorted(moved, reverse=True)
    assert moved[2] < 0.6 * moved[0]
