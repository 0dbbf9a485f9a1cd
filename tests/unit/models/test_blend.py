"""The recommender as a whole: what is saved scores the same, parts add up, strangers and large histories get answers."""

from __future__ import annotations

import dataclasses
import json
import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from tests.fixtures.tiny_model import UNTIL, tiny_model
from tests.unit.models.test_ranker import grown

from endcap.errors import RegistryError
from endcap.models import blend
from endcap.models.blend import BlendedRecommender
from endcap.models.digest import digest
from endcap.models.history import History, encode
from endcap.models.model_files import RANKER, load_model, save_model
from endcap.models.ranker import Ranker


@pytest.fixture(scope="module")
def model() -> BlendedRecommender:
    return tiny_model()


@pytest.fixture(scope="module")
def ranked() -> BlendedRecommender:
    """With a second stage whose trees say something of any pair, and a mix of both stages."""
    found = tiny_model()
    found.ranker, found.mix = Ranker([grown(splits_on="item_taken", scale=70.0)]), (0.5, 2.0)
    return found


@pytest.fixture(scope="module")
def factorised() -> BlendedRecommender:
    """With matrix factorisation among its signals."""
    return tiny_model(options={"factors": 4})


@pytest.fixture(scope="module")
def directory(model: BlendedRecommender, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("model")
    save_model(model, target)
    return target


HISTORIES = [
    History.empty(),
    History(["item00", "item04"], [UNTIL - timedelta(days=9), UNTIL - timedelta(days=2)]),
    History(["nobody knows it"], [UNTIL]),
]


def test_a_saved_model_scores_the_same(model: BlendedRecommender, directory: Path, tmp_path: Path) -> None:
    loaded = load_model(directory)
    np.testing.assert_array_equal(loaded.score(HISTORIES, UNTIL), model.score(HISTORIES, UNTIL))
    assert loaded.config["dataset_version"] == "dataset-1"
    save_model(loaded, tmp_path)
    assert digest(tmp_path) == digest(directory)


def test_a_directory_that_lies_about_context_is_refused(directory: Path, tmp_path: Path) -> None:
    lies = shutil.copytree(directory, tmp_path / "lies")
    config = json.loads((lies / "config.json").read_text())
    config["shape"]["context"] = True
    (lies / "config.json").write_text(json.dumps(config))
    with pytest.raises(RegistryError, match="occasions"):
        load_model(lies)


@pytest.mark.parametrize("stages", ["model", "ranked", "factorised"])
def test_parts_add_up_to_the_score(stages: str, request: pytest.FixtureRequest) -> None:
    model: BlendedRecommender = request.getfixturevalue(stages)
    scores, parts = model.score(HISTORIES, UNTIL), model.score_parts(HISTORIES, UNTIL)
    assert parts["ranker"].any() == (stages == "ranked")
    assert parts["factors"][1].any() == (stages == "factorised")
    assert not parts["factors"][[0, 2]].any()  # nothing held, nothing said
    np.testing.assert_allclose(sum(parts.values()), scores, atol=1e-4)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()


def test_factors_are_saved_and_say_nothing_of_items_that_nobody_took(factorised: BlendedRecommender, tmp_path: Path) -> None:
    save_model(factorised, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.counts.factors.values.shape == (24, 4)
    np.testing.assert_array_equal(loaded.score(HISTORIES, UNTIL), factorised.score(HISTORIES, UNTIL))
    unseen = loaded.counts.all_time == 0
    assert unseen.any()
    assert not loaded.score_parts(HISTORIES, UNTIL)["factors"][:, unseen].any()


def test_candidates_are_reordered_and_stay_before_all_others(
    ranked: BlendedRecommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blend, "CANDIDATES", 6)
    first = dataclasses.replace(ranked, ranker=None).score(HISTORIES, UNTIL)
    batch = encode(HISTORIES, {item: code for code, item in enumerate(ranked.item_ids)}, UNTIL)
    dense, _own = ranked.signals(batch)
    for row, both in enumerate(ranked.score(HISTORIES, UNTIL)):
        before, after = np.argsort(-first[row], kind="stable"), np.argsort(-both, kind="stable")
        best = before[:6]
        second = ranked.rank_pairs(batch, dense, np.full(6, row), best)
        assert len(np.unique(second)) > 1
        mixed = 0.5 * first[row, best] + 2.0 * second
        np.testing.assert_array_equal(np.sort(after[:6]), np.sort(best))
        np.testing.assert_array_equal(both[best], mixed.astype(np.float32))
        np.testing.assert_array_equal(after[6:], before[6:])


def test_a_second_stage_is_saved_with_the_first_and_goes_with_it(ranked: BlendedRecommender, tmp_path: Path) -> None:
    save_model(ranked, tmp_path)
    loaded = load_model(tmp_path)
    assert (loaded.mix, loaded.ranker is None) == (ranked.mix, False)
    np.testing.assert_array_equal(loaded.score(HISTORIES, UNTIL), ranked.score(HISTORIES, UNTIL))
    save_model(dataclasses.replace(ranked, ranker=None), tmp_path)
    assert not (tmp_path / RANKER).exists()
    alone = load_model(tmp_path)
    assert alone.ranker is None
    assert not np.array_equal(alone.score(HISTORIES, UNTIL), ranked.score(HISTORIES, UNTIL))


def test_unknown_items_leave_a_stranger(model: BlendedRecommender) -> None:
    scores = model.score(HISTORIES, UNTIL)
    np.testing.assert_allclose(scores[2], scores[0], atol=1e-5)
    assert not np.allclose(scores[1], scores[0])


def test_a_shopper_is_scored_the_same_alone_and_in_company(model: BlendedRecommender) -> None:
    together = model.score(HISTORIES, UNTIL)
    for row, history in enumerate(HISTORIES):
        np.testing.assert_allclose(model.score([history], UNTIL)[0], together[row], atol=1e-4)


def test_a_hundred_thousand_events_are_answered(model: BlendedRecommender) -> None:
    count = 100_000
    items = [f"item{number % 24:02d}" for number in range(count)]
    times = np.datetime64(UNTIL.replace(tzinfo=None), "us") - np.arange(count)[::-1] * np.timedelta64(60, "s")
    scores = model.score([History(items, times)], UNTIL)
    assert np.isfinite(scores).all()


def test_an_empty_batch_has_no_rows(model: BlendedRecommender) -> None:
    assert model.score([], UNTIL).shape == (0, 24)


@pytest.mark.parametrize("broken", ["config.json", "items.parquet", "sequence.safetensors", "counts.safetensors"])
def test_a_broken_directory_is_named(directory: Path, tmp_path: Path, broken: str) -> None:
    copy = tmp_path / "model"
    shutil.copytree(directory, copy)
    (copy / broken).write_bytes((copy / broken).read_bytes()[:20])
    with pytest.raises(RegistryError, match="cannot be read as a model"):
        load_model(copy)


def test_digest_sees_every_byte_and_name(directory: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(directory, copy)
    assert digest(copy) == digest(directory)
    (copy / "config.json").rename(copy / "other.json")
    assert digest(copy) != digest(directory)
    with pytest.raises(FileNotFoundError):
        digest(tmp_path / "nowhere")


def test_an_item_that_nobody_has_taken_keeps_its_place_among_the_ranked() -> None:
    first = np.array([[4.0, 3.0, 2.0, 1.0], [4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]], np.float32)
    second = np.array([[10.0, -99.0, 30.0, 20.0], [-99.0, 3.0, 2.0, 1.0], [7.0, 8.0, 9.0, 1.0]], np.float32)
    unseen = np.array([[False, True, False, False], [True, False, False, False], [False] * 4])
    blend.keep_place(first, second, unseen)
    assert 20 < second[0, 1] < 30  # second of four, and the best two others have 30 and 20
    assert second[1, 0] == 3  # nothing stands above it
    assert second[2].tolist() == [7, 8, 9, 1]


def test_of_unseen_items_the_blend_hears_what_is_known(model: BlendedRecommender) -> None:
    counts = dataclasses.replace(model.counts, all_time=np.where(np.arange(len(model.counts.all_time)) == 2, 0, 1))
    batch = encode(HISTORIES, {item: code for code, item in enumerate(model.item_ids)}, UNTIL)
    dense, _ = dataclasses.replace(model, counts=counts).signals(batch)
    others = np.arange(len(model.item_ids)) != 2
    assert dense["unseen"].tolist() == (~others).tolist()
    for name, of in (("unseen_sequence", "sequence"), ("unseen_content", "content")):
        assert not dense[name][:, others].any()
        np.testing.assert_allclose(dense[name][:, 2], np.maximum(dense[of][:, 2], 0))
