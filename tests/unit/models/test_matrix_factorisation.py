"""ALS finds the two tastes of a shop, and always the same way."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from tests.unit.models.test_baselines import NOW, shop

from endcap.models.history import History, encode, held
from endcap.models.matrix_factorisation import Als, ItemFactors

ROWS = [(f"{taste}{user}", f"{taste}{(user + step) % 4}", 9 - step) for taste in "xy" for user in range(8) for step in range(3)]


def test_it_recommends_what_goes_with_the_history_and_repeats_itself() -> None:
    shopping = shop(ROWS)
    histories = [History(["x0"], [NOW]), History(["?"], [NOW]), History.empty()]
    scores = Als(2).fit(shopping, NOW).score(histories, NOW)
    same = np.array([str(item).startswith("x") for item in shopping.item_ids])
    assert scores[0][same].min() > scores[0][~same].max()
    assert not scores[1:].any()
    np.testing.assert_array_equal(scores, Als(2).fit(shopping, NOW).score(histories, NOW))


def test_a_shopper_is_solved_as_the_library_solves_her() -> None:
    shopping = shop([*ROWS, *((f"x{user}", f"y{user % 3}", 1) for user in range(0, 8, 2)), ("x0", "sold to nobody else", 2)])
    fitted = Als(6, iterations=5).fit(shopping, NOW)
    everything = [str(item) for item in shopping.item_ids]
    histories = [History(["x0", "y1", "x0"], [NOW] * 3), History(everything, [NOW] * len(everything)), History(["x3"], [NOW])]
    batch = encode(histories, {item: code for code, item in enumerate(everything)}, NOW)
    ours = fitted.item_factors.score(held(batch, len(everything)))
    assert ours.dtype == np.float32
    assert ours.std() > 0.1
    np.testing.assert_allclose(ours, fitted.score(histories, NOW), atol=1e-5)


def test_strangers_items_that_nobody_took_and_a_model_without_factors_get_zeros() -> None:
    shopping = shop([*ROWS, ("x0", "bought tomorrow", -1)])
    items = [str(item) for item in shopping.item_ids]
    taken, unseen = items.index("x0"), items.index("bought tomorrow")
    holds = sparse.csr_matrix(([1.0, 1.0], ([0, 1], [taken, unseen])), shape=(3, len(items)))  # the third is a stranger
    factors = Als(4).fit(shopping, NOW).item_factors
    scores = factors.score(holds)
    assert scores[0, taken] > 0.1
    assert not scores[0, unseen]
    assert not scores[1:].any()
    assert not ItemFactors(factors.values[:, :0]).score(holds).any()


def test_factors_of_another_fit_are_not_solved_with_the_wrong_numbers() -> None:
    scorer = Als(2, alpha=40.0).fit(shop([("u", "a", 9), ("u", "b", 8), ("v", "a", 3)]), NOW)
    with pytest.raises(ValueError, match=r"solved with λ 0\.05, α 10\.0; got 0\.05, 40\.0"):
        _ = scorer.item_factors
