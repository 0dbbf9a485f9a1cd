"""The examples in the docstrings of policies are true."""

from __future__ import annotations

import doctest
import importlib

import numpy as np
import pytest

MODULES = [f"endcap.policy.{name}" for name in ("drawing", "features", "linear", "state")] + ["endcap.serving.policy_store"]


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name), extraglobs={"np": np})
    assert found.attempted
    assert not found.failed
