"""The figures in the docstrings of the estimators, worked out by hand."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from endcap.evaluation.off_policy import choices, estimate, intervals, slates, tuning, weights


@pytest.mark.parametrize("module", [choices, estimate, intervals, slates, tuning, weights])
def test_the_examples_hold(module: object) -> None:
    found = doctest.testmod(module, extraglobs={"np": np})  # type: ignore[arg-type]
    assert found.attempted > 0
    assert found.failed == 0
