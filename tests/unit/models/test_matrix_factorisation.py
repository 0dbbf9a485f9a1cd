"""ALS finds the two tastes of a shop, and always the same way."""

from __future__ import annotations

import numpy as np
from tests.unit.models.test_baselines import NOW, shop

from endcap.models.history import History
from endcap.models.matrix_factorisation import Als

ROWS = [(f"{taste}{user}", f"{taste}{(user + step) % 4}", 9 - step) for taste in "xy" for user in range(8) for step in range(3)]


def test_it_recommends_what_goes_with_the_history_and_repeats_itself() -> None:
    shopping = shop(ROWS)
    histories = [History(["x0"], [NOW]), History(["?"], [NOW]), History.empty()]
    scores = Als(2).fit(shopping, NOW).score(histories, NOW)
    same = np.array([str(item).startswith("x") for item in shopping.item_ids])
    assert scores[0][same].min() > scores[0][~same].max()
    assert not scores[1:].any()
    np.testing.assert_array_equal(scores, Als(2).fit(shopping, NOW).score(histories, NOW))
