"""The quality gates on hand-made shoppers: who loses is refused, who cannot be judged is shown."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from endcap.config import Params
from endcap.release.quality import BASELINES, CANDIDATE, CHAMPION, baseline_gates, champion_gates, slice_gates, slices
from endcap.release.scorecard import Gate

SHOPPERS = 200


def shop(**models: float | np.ndarray) -> pd.DataFrame:
    """Each model's NDCG and Recall for SHOPPERS shoppers: half new, a quarter light, a quarter heavy, two countries."""
    parts = []
    noise = np.random.default_rng(0).uniform(-0.05, 0.05, SHOPPERS)
    number = np.arange(SHOPPERS)
    for name, level in models.items():
        values = np.full(SHOPPERS, level) + noise
        parts.append(
            pd.DataFrame(
                {
                    "model": name.replace("_", " ").replace("item kNN", "item-kNN"),
                    "user_id": [f"u{n:03d}" for n in number],
                    **dict.fromkeys(("ndcg_at_10", "recall_at_10", "ndcg_at_10_new", "recall_at_10_new"), values),
                    "history_events": np.select([number % 4 < 2, number % 4 == 2], [0, 20], 300),
                    "country": np.where(number < 190, "United Kingdom", "France"),
                    "took_new_item": number % 5 == 0,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


BEATEN = {"popularity": 0.1, "recent_popularity": 0.1, "item_kNN": 0.15, "own_purchase_counts": 0.2}


def named(gates: list[Gate], name: str) -> Gate:
    return next(gate for gate in gates if gate.result.name == name)


@pytest.mark.parametrize(("level", "passed"), [(0.30, True), (0.299, True), (0.27, False), (0.1, False)])
def test_not_worse_than_the_champion_beyond_the_margin(params: Params, level: float, passed: bool) -> None:
    gates = params.gates.model_copy(update={"margin_vs_champion": 0.02})

    found = champion_gates(shop(candidate=level, champion=0.30), gates, params.evaluate)

    assert [gate.result.passed for gate in found] == [passed, passed]
    assert all(gate.result.blocking for gate in found)


def test_a_gain_that_is_only_luck_does_not_pass(params: Params) -> None:
    """The mean is better, but a few shoppers carry it: the lower bound is what counts."""
    lucky = np.full(SHOPPERS, 0.25)
    lucky[:12] = 1.2

    (ndcg, _) = champion_gates(shop(candidate=lucky, champion=0.30), params.gates, params.evaluate)

    assert ndcg.comparison is not None
    assert ndcg.comparison.difference.mean > 0
    assert not ndcg.result.passed


def test_the_first_model_has_no_champion_to_beat(params: Params) -> None:
    assert champion_gates(shop(candidate=0.3, **BEATEN), params.gates, params.evaluate) == []


@pytest.mark.parametrize("better", BASELINES)
def test_a_model_that_loses_to_a_counter_is_refused(params: Params, better: str) -> None:
    levels = {**BEATEN, better.replace(" ", "_").replace("-", "_"): 0.5}

    found = baseline_gates(shop(candidate=0.3, **levels), params.gates, params.evaluate)

    assert [gate.result.name for gate in found if not gate.result.passed] == [f"NDCG@10 against {better}"]


def test_without_shoppers_nothing_passes(params: Params) -> None:
    nobody = shop(candidate=0.3, **BEATEN).head(0)

    assert not any(gate.result.passed for gate in baseline_gates(nobody, params.gates, params.evaluate))


@pytest.mark.parametrize(
    ("name", "victims"),
    [
        ("new shoppers", lambda n: n % 4 < 2),
        ("light shoppers", lambda n: n % 4 == 2),
        ("heavy shoppers", lambda n: n % 4 == 3),
        ("items new to the shop", lambda n: n % 5 == 0),
        ("country: United Kingdom", lambda n: n < 190),
    ],
)
def test_a_better_average_does_not_hide_a_slice_that_pays(params: Params, name: str, victims: object) -> None:
    hit = victims(np.arange(SHOPPERS))  # type: ignore[operator]
    ours = np.where(hit, 0.2, 0.9)

    found = slice_gates(shop(candidate=ours, champion=0.3), params.gates, params.evaluate)

    gate = named(found, name)
    assert not gate.result.passed
    assert gate.result.blocking


def test_items_new_to_the_shopper_are_judged_by_their_own_metric(params: Params) -> None:
    frame = shop(candidate=0.4, champion=0.3)
    frame.loc[frame["model"] == CANDIDATE, "ndcg_at_10_new"] = 0.1

    gate = named(slice_gates(frame, params.gates, params.evaluate), "items new to the shopper")

    assert not gate.result.passed


def test_a_slice_too_small_is_a_warning_that_is_shown(params: Params) -> None:
    gate = named(slice_gates(shop(candidate=0.0, champion=0.3), params.gates, params.evaluate), "country: all others")

    assert "10 shoppers, too few" in gate.result.observed
    assert not gate.result.passed
    assert not gate.result.blocking


def test_the_first_model_is_compared_with_own_counts_slice_by_slice(params: Params) -> None:
    found = slice_gates(shop(candidate=0.1, **BEATEN), params.gates, params.evaluate)

    assert {gate.comparison.reference for gate in found if gate.comparison} == {"own purchase counts"}
    assert not named(found, "heavy shoppers").result.passed


def test_every_shopper_is_in_one_of_the_country_slices(params: Params) -> None:
    frame = shop(candidate=0.3, champion=0.3)

    cut = slices(frame, "ndcg_at_10", 30)
    countries = [users for name, (users, _) in cut.items() if name.startswith("country")]

    assert sum(map(len, countries)) == SHOPPERS
    assert CHAMPION not in cut
