"""The recommender as a whole: what is saved scores the same, parts add up, strangers and large histories get answers."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from tests.fixtures.tiny_model import UNTIL, tiny_model

from endcap.errors import RegistryError
from endcap.models.blend import BlendedRecommender
from endcap.models.digest import digest
from endcap.models.history import History


@pytest.fixture(scope="module")
def model() -> BlendedRecommender:
    return tiny_model()


@pytest.fixture(scope="module")
def directory(model: BlendedRecommender, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("model")
    model.save(target)
    return target


HISTORIES = [
    History.empty(),
    History(["item00", "item04"], [UNTIL - timedelta(days=9), UNTIL - timedelta(days=2)]),
    History(["nobody knows it"], [UNTIL]),
]


def test_a_saved_model_scores_the_same(model: BlendedRecommender, directory: Path, tmp_path: Path) -> None:
    loaded = BlendedRecommender.load(directory)
    np.testing.assert_array_equal(loaded.score(HISTORIES, UNTIL), model.score(HISTORIES, UNTIL))
    assert loaded.config["dataset_version"] == "dataset-1"
    loaded.save(tmp_path)
    assert digest(tmp_path) == digest(directory)


def test_parts_add_up_to_the_score(model: BlendedRecommender) -> None:
    scores, parts = model.score(HISTORIES, UNTIL), model.score_parts(HISTORIES, UNTIL)
    np.testing.assert_allclose(sum(parts.values()), scores, atol=1e-4)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()


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
        BlendedRecommender.load(copy)


def test_digest_sees_every_byte_and_name(directory: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(directory, copy)
    assert digest(copy) == digest(directory)
    (copy / "config.json").rename(copy / "other.json")
    assert digest(copy) != digest(directory)
    with pytest.raises(FileNotFoundError):
        digest(tmp_path / "nowhere")
