"""What is written down of a shown item: the same numbers whenever and wherever they are made."""

from __future__ import annotations

import numpy as np
import pytest

from endcap.errors import InputError
from endcap.policy.features import BUCKETS, MOST, NAMES, ItemFacts, Occasion, features, names_of, reduce

FACTS = ItemFacts.of(
    ["cups", "", "cups"],
    np.array([1.0, np.nan, 3.0]),
    np.array([0.0, 0.0, 1e9 - 10]),
    np.array([5.0, 1.0, 3.0], np.float32),
    np.eye(3, dtype=np.float32),
)
OCCASION = Occasion(now=1e9, surface="email", bought=frozenset({0}), seen=frozenset({2}))


def row(item: int, score: float = 2.0, order: int = 1, place: int = 1) -> dict[str, float]:
    found = features(FACTS, OCCASION, *(np.array([one]) for one in (item, score, order, place)), 1.0, 2.0)
    return dict(zip(NAMES, found[0].tolist(), strict=True))


def test_there_are_few_of_them_and_each_is_small() -> None:
    assert len(NAMES) <= 32
    assert all(abs(value) <= MOST for item in range(3) for value in row(item, 1e6).values())


def test_each_says_what_its_name_says() -> None:
    first, second, third = row(0), row(1, order=3, place=2), row(2)
    assert first["score"] == first["score_on_email"] == 0.5
    assert first["score_on_home"] == 0
    assert (first["on_email"], first["on_home"]) == (1, 0)
    assert (first["bought"], first["seen"], third["bought"], third["seen"]) == (1, 0, 0, 1)
    assert (first["new"], third["new"]) == (0, 1)
    assert second["order"] == pytest.approx(0.5)
    assert second["place"] == pytest.approx(1 / np.log2(3))
    assert (first["popularity"], second["popularity"]) == (pytest.approx(5 / 6), pytest.approx(1 / 6))
    assert (first["price"], second["price"], third["price"]) == (0.25, 0.5, 0.75)
    kinds = [[one[f"category_{bucket}"] for bucket in range(BUCKETS)] for one in (first, second, third)]
    assert (sum(kinds[0]), sum(kinds[1])) == (1, 0)
    assert kinds[0] == kinds[2]
    assert kinds[0][2] == 1  # by crc32, which is the same in every process and for ever


def test_vectors_are_reduced_to_the_widest_directions_and_bound_to_their_model() -> None:
    random = np.random.default_rng(0)
    wide = random.normal(size=(200, 3)) @ random.normal(size=(3, 40))
    reduced = reduce(wide.astype(np.float32))
    assert reduced.shape == (200, 24)
    assert np.square(reduced).sum(axis=1).mean() == pytest.approx(1)
    assert np.square(reduced[:, 3:]).sum() < 1e-6 * np.square(reduced).sum()
    bound = ItemFacts.of(["a"] * 200, np.ones(200), np.zeros(200), np.zeros(200, np.float32), wide.astype(np.float32), "7.ab")
    assert bound.feature_set == "linear-1+items-24@7.ab"
    assert names_of(bound.feature_set)[-1] == "item_23@7.ab"
    assert reduce(np.zeros((3, 0), np.float32)).shape == (3, 0)


@pytest.mark.parametrize("name", ["linear-0", "", "linear-1+items-x@3", "linear-1+items-3", "linear-1+others-3@7"])
def test_features_of_another_version_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"^feature_set: "):
        names_of(name)
