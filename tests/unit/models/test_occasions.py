"""When and where a slate is asked for."""

from __future__ import annotations

import doctest

import numpy as np
import torch

from endcap.data.features import SURFACE_CODES
from endcap.models import occasions
from endcap.models.occasions import SIZES, Occasions, occasions_of


def test_examples_in_the_docs_hold() -> None:
    assert doctest.testmod(occasions).attempted
    assert doctest.testmod(occasions).failed == 0


def test_every_hour_of_a_week_and_every_surface_is_another_occasion() -> None:
    hours = np.arange("1969-12-29", "1970-01-05", dtype="datetime64[h]").astype("datetime64[us]").astype(np.int64)
    found = {int(number) for code in SURFACE_CODES.values() for number in occasions_of(hours, np.full(len(hours), code))}
    assert found == set(range(np.prod(SIZES)))
    np.testing.assert_array_equal(
        np.unravel_index(occasions_of(hours, np.zeros_like(hours)), SIZES)[0], np.repeat(range(7), 24)
    )


def test_at_first_an_occasion_says_nothing_and_a_surface_that_is_not_told_never_does() -> None:
    table, every = Occasions(4), torch.arange(np.prod(SIZES))
    assert not table(every).any()
    (table(every) - 1).square().sum().backward()
    grads = [part.weight.grad for part in (table.weekdays, table.hours, table.surfaces)]
    assert [grad.any(dim=1).all().item() for grad in grads] == [True, True, False]
    assert grads[2].any(dim=1).tolist() == [False, True, True, True, True]
