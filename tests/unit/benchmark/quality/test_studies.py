"""Endcap without its parts, and with only the newest events: real fits on a small shop, judged and drawn like the rest."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.fixtures.benchmark_files import group_shop
from tests.fixtures.tiny_model import UNTIL, tiny_model

from endcap.benchmark.quality.chart import growth
from endcap.benchmark.quality.run import Request, run_quality
from endcap.benchmark.quality.studies import NEWEST, PARTS, Newest, SequenceAlone, Silenced, ablations, newest
from endcap.config import Params
from endcap.errors import InputError
from endcap.models.history import History, encode
from endcap.models.signals import DENSE
from endcap.training.options import FitOptions

TINY = FitOptions(dim=8, heads=2, max_length=8, max_epochs=2, batch_size=8, factors=2)
HISTORY = History(["item00", "item04", "item08"], [UNTIL - timedelta(days=day) for day in (9, 5, 2)])


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, params: Params) -> dict[str, Any]:
    shop = group_shop(tmp_path_factory.mktemp("shop"))
    out = shop.parent / "R.json"
    request = Request(shop, None, "leave-one-out", seeds=2, baselines=False, out=out, ablation=True, cold_start=True)
    return run_quality(request, params, TINY)


def test_each_part_and_each_length_is_judged_beside_the_whole(result: dict[str, Any]) -> None:
    assert set(result["models"]) == {
        "Endcap", *(f"Endcap without {part}" for part in PARTS), "Endcap without second stage", "Endcap, sequence alone",
        *(f"Endcap, newest {events} events" for events in NEWEST),
    }  # fmt: skip
    whole = result["models"]["Endcap"]["seeds"]
    for name, model in result["models"].items():
        assert ("endcap_minus_this" in model) == (name != "Endcap")
        if name != "Endcap":  # a variant is held against the fit that it was made of
            lead = model["endcap_minus_this"]["ndcg@10"]["mean"]
            assert lead == pytest.approx(whole["42"]["ndcg@10"] - model["mean"]["ndcg@10"], abs=1e-9)


def test_the_curve_grows_from_nothing_to_all(result: dict[str, Any]) -> None:
    curve = growth(result)
    assert list(curve) == ["0", "1", "2", "5", "10", "all"]
    assert curve["10"] == curve["all"]  # nobody has more than ten events in this shop
    assert curve["0"]["mean"] < curve["all"]["mean"]


def test_names_of_parts_are_signals() -> None:
    assert {signal for signals in PARTS.values() for signal in signals} == set(DENSE)


def test_factors_are_taken_out_only_where_there_are_some() -> None:
    def named(factors: int) -> set[str]:
        return set(ablations(tiny_model, None, dataclasses.replace(TINY, factors=factors)))  # type: ignore[arg-type] -- nothing is fitted yet

    assert named(8) - named(0) == {"Endcap without matrix factorisation"}
    assert named(0) <= named(8)


def test_a_silenced_signal_says_nothing_and_the_others_what_they_did() -> None:
    model = tiny_model(epochs=1)
    silent = Silenced(model.items, model.model, model.counts, model.target_types, silent=frozenset({"ease", "recent"}))
    batch = encode([HISTORY], {item: code for code, item in enumerate(model.item_ids)}, UNTIL)
    whole, less = model.dense(batch), silent.dense(batch)
    assert all(not less[name].any() for name in ("ease", "recent"))
    for name in set(DENSE) - {"ease", "recent"}:
        np.testing.assert_array_equal(less[name], whole[name])
    np.testing.assert_array_equal(SequenceAlone(model).score([HISTORY], UNTIL), whole["sequence"])


def test_only_the_newest_events_are_seen() -> None:
    model = tiny_model(epochs=1)
    assert newest(HISTORY, 2).item_ids.tolist() == ["item04", "item08"]
    assert (len(newest(HISTORY, 0)), len(newest(HISTORY, 9))) == (0, 3)
    np.testing.assert_array_equal(Newest(model, 0).score([HISTORY], UNTIL), model.score([History.empty()], UNTIL))


@pytest.mark.parametrize(
    ("asked", "named"), [({"protocol": "time", "ablation": True}, "ablation"), ({"cold_start": True, "seeds": 0}, "seeds")]
)
def test_what_cannot_be_studied_is_named(asked: dict[str, Any], named: str, tmp_path: Path, params: Params) -> None:
    request = Request(**{"interactions": tmp_path / "none", "items": None, "protocol": "leave-one-out", **asked})
    with pytest.raises(InputError) as caught:
        run_quality(request, params, TINY)
    assert caught.value.field == named
