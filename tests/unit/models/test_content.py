"""Content-kNN by hand."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
from tests.unit.models.test_baselines import NOW, shop

from endcap.models.content import ContentKnn
from endcap.models.history import History

TEXT = np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 0.0], [3.0, 4.0]], np.float32)  # of a, b, c (no text) and d


def test_cosine_to_the_mean_of_the_newest() -> None:
    shopping = shop([(user, user, 1) for user in "abcd"])
    history = History(["a", "b", "c"], [NOW - timedelta(days=day) for day in (3, 2, 1)])
    scores = ContentKnn(TEXT, newest=3).fit(shopping, NOW).score([history, History.empty()], NOW)
    np.testing.assert_allclose(scores[0], [0.5**0.5, 0.5**0.5, 0, 1.4 / 2**0.5], rtol=1e-6)
    assert not scores[1].any()
    last = ContentKnn(TEXT, newest=2).fit(shopping, NOW).score([history], NOW)
    np.testing.assert_allclose(last[0], [0, 1, 0, 0.8], rtol=1e-6)
