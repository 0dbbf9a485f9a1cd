"""The search space of params.yaml: keys, types and ranges are checked when the file is read."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from endcap.config import Params, with_values
from endcap.errors import ConfigError
from endcap.search_space import Dimension, grid, integers, tunable


@pytest.mark.parametrize(
    ("key", "dimension", "says"),
    [
        ("train.drpout", {"low": 0.0, "high": 0.5}, r"no parameter that can be tuned.*Did you mean `train\.dropout`"),
        ("train.epochs", {"low": 1, "high": 2}, r"Did you mean `train\.max_epochs`"),
        ("gates.confidence", {"low": 0.6, "high": 0.9}, "no parameter that can be tuned"),
        ("train.seed", {"choices": [1, 2]}, "a seed is luck"),
        ("train.update.epochs", {"low": 1, "high": 3}, "a trial would not notice"),
        ("train.dropout", {"low": 0.0, "high": 1.0}, r"may not have \(Input should be less than 1\); got 1\.0"),
        ("train.dim", {"choices": [32, 48.5]}, r"valid integer.*; got 48\.5"),
        ("train.dim", {"choices": [32, "64"]}, r"valid integer.*; got '64'"),
        ("train.precision", {"choices": ["fp32", "fp8"]}, "got 'fp8'"),
        ("train.precision", {"low": 1, "high": 2}, "no number, so it has no range"),
        ("train.dropout", {"low": 0.5, "high": 0.1}, "low must be below high"),
        ("train.dropout", {"low": 0.0, "high": 0.1, "log": True}, "starts above 0"),
        ("train.dropout", {"low": 0.0, "choices": [0.1]}, "either choices, or low and high"),
        ("train.dropout", {"low": 0.0}, "both low and high"),
        ("train.dropout", {"choices": [0.1, 0.1]}, "each once"),
        ("train.dropout", {"low": 0.0, "hihg": 0.1}, "Did you mean `high`"),
    ],
)
def test_a_wrong_dimension_names_its_key_and_what_is_right(
    params: Params, key: str, dimension: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=rf"tune\.space\.{key.replace('.', '[.]')}.*{says}"):
        with_values(params, {"tune.space": {key: dimension}})


def test_a_grid_needs_values_that_can_be_listed(params: Params) -> None:
    with pytest.raises(ConfigError, match=r"tune\.space\.train\.dropout: is no grid.*a step"):
        with_values(params, {"tune.sampler": "grid", "tune.space": {"train.dropout": {"low": 0.0, "high": 0.4}}})
    space = {
        "train.dropout": {"low": 0.0, "high": 0.3, "step": 0.1},
        "train.layers": {"low": 1, "high": 2},
        "train.precision": {"choices": ["fp32", "auto"]},
    }
    tune = with_values(params, {"tune.sampler": "grid", "tune.space": space}).tune
    points = grid(tune.space, integers(tune.space, Params))
    assert len(points) == 4 * 2 * 2
    assert [point["train.dropout"] for point in points[::4]] == [0.0, 0.1, 0.2, 0.3]
    assert {type(point["train.layers"]) for point in points} == {int}


def test_every_key_that_may_be_tuned_is_one_of_the_train_stage(params: Params) -> None:
    keys = dict(tunable(Params))
    assert {"train.dim", "train.learning_rate", "recent_days"} <= set(keys)
    assert not {"train.seed", "train.max_seconds", "train.update.epochs", "prepare.holdout_days"} & set(keys)


def test_values_that_do_not_go_together_are_refused(params: Params) -> None:
    assert with_values(params, {"train.dim": 32}).train.dim == 32
    with pytest.raises(ConfigError, match=r"train\.heads.*multiple of train\.heads"):
        with_values(params, {"train.dim": 33})


def test_infinite_ends_are_refused() -> None:
    with pytest.raises(ValidationError, match="finite"):
        Dimension(low=0.0, high=float("inf"))


def test_the_shipped_space_holds_the_shipped_values(params: Params) -> None:
    """Else a study would not try them, and could install worse ones."""
    for key, one in params.tune.space.items():
        value: Any = params.model_dump()
        for part in key.split("."):
            value = value[part]
        assert value in one.choices if one.choices is not None else one.low <= value <= one.high, key  # type: ignore[operator]
