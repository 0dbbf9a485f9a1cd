"""Candidates by hand, and a ranker that survives its text."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest

from endcap.errors import RegistryError
from endcap.models.history import HistoryBatch
from endcap.models.ranker import Ranker, candidates
from endcap.models.ranking_features import FEATURES


def touched(*pairs: tuple[int, int], size: int) -> HistoryBatch:
    rows, codes = np.array(pairs, np.int64).reshape(-1, 2).T
    zero, one = np.zeros(len(rows), np.int64), np.ones(len(rows), np.float32)
    return HistoryBatch(
        size=size, rows=rows, codes=codes, ages=zero.astype(np.float32), types=zero, now_us=0, quantities=one, prices=one,
        surfaces=zero, countries=zero,
    )  # fmt: skip


def grown(names: tuple[str, ...] = FEATURES, splits_on: str = FEATURES[0], scale: float = 1.0) -> lightgbm.Booster:
    rng = np.random.default_rng(0)
    table = (scale * rng.normal(size=(400, len(names)))).astype(np.float32)
    data = lightgbm.Dataset(table, table[:, names.index(splits_on)] > 0.5 * scale, group=[20] * 20, feature_name=list(names))
    settings = {"objective": "lambdarank", "num_threads": 1, "verbose": -1, "deterministic": True, "min_data_in_leaf": 5}
    return lightgbm.train(settings, data, 5)


def test_own_items_and_the_best_others_of_each_signal() -> None:
    liked = np.array([[9, 8, 7, 0, 0], [0, 1, 2, 3, 4]], np.float32)
    popular = np.array([0, 0, 0, 1, 0], np.float32)
    rows, codes = candidates(touched((0, 0), (0, 0), (0, 2), size=2), [liked, popular], items=5, top=1)
    # The first has items 0 and 2, of the rest likes 1 best; the second likes 4; item 3 is popular.
    assert list(zip(rows.tolist(), codes.tolist(), strict=True)) == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 3), (1, 4)]


@pytest.mark.parametrize(("size", "items"), [(0, 4), (2, 1), (2, 0)], ids=["no shopper", "one item", "no item"])
def test_candidates_of_odd_shops(size: int, items: int) -> None:
    rows, codes = candidates(touched(size=size), [np.zeros((size, items), np.float32)], items, top=60)
    assert rows.tolist() == np.repeat(np.arange(size), items).tolist()
    assert codes.tolist() == np.tile(np.arange(items), size).tolist()


def test_a_ranker_read_from_its_text_scores_the_same() -> None:
    ranker = Ranker([grown(), grown(splits_on=FEATURES[1])])
    table = np.random.default_rng(1).normal(size=(50, len(FEATURES))).astype(np.float32)
    table[::7, 3] = np.nan
    again = Ranker.from_text(ranker.to_text())
    np.testing.assert_array_equal(again.score(table), ranker.score(table))
    assert again.to_text() == ranker.to_text()
    order = np.random.default_rng(2).permutation(50)
    np.testing.assert_array_equal(ranker.score(table[order]), ranker.score(table)[order])
    assert ranker.score(table[:0]).shape == (0,)
    assert min(ranker.gains()[name] for name in FEATURES[:2]) > 0.4


def test_groups_of_trees_are_averaged() -> None:
    one, other = grown(), grown(splits_on=FEATURES[1])
    table = np.random.default_rng(1).normal(size=(50, len(FEATURES))).astype(np.float32)
    apart = [Ranker([booster]).score(table) for booster in (one, other)]
    np.testing.assert_allclose(Ranker([one, other]).score(table), np.mean(apart, axis=0), atol=1e-6)


def test_another_text_is_refused() -> None:
    with pytest.raises(RegistryError, match="cannot be read as trees"):
        Ranker.from_text("no trees")
    with pytest.raises(RegistryError, match=r"other features.*shoe_size"):
        Ranker.from_text(Ranker([grown(), grown((*FEATURES[:-1], "shoe_size"))]).to_text())
