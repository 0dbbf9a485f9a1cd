"""TIFU-kNN against a slow loop that follows the paper."""

from __future__ import annotations

import doctest

import numpy as np
import numpy.typing as npt
from tests.unit.models.test_baselines import NOW, shop

from endcap.models import next_basket
from endcap.models.history import History
from endcap.models.next_basket import Decay, TifuKnn

Basket = npt.NDArray[np.float64]


def test_examples_in_the_docs_hold() -> None:
    assert doctest.testmod(next_basket, extraglobs={"np": np}).failed == 0


def user_vector(baskets: list[Basket], decay: Decay) -> Basket:
    """One user's vector, basket by basket, oldest first."""
    groups = min(len(baskets), decay.groups)
    size, extra = divmod(len(baskets), groups)
    sizes = [size] * (groups - extra) + [size + 1] * extra
    total, begin = np.zeros_like(baskets[0]), 0
    for g, n in enumerate(sizes):
        own = baskets[begin : begin + n]
        begin += n
        vector = sum((decay.within ** (n - 1 - b) * basket for b, basket in enumerate(own)), np.zeros_like(total)) / n
        total = total + decay.between ** (groups - 1 - g) * vector / groups
    return total


def test_it_does_what_the_paper_says() -> None:
    rng = np.random.default_rng(5)
    decay, neighbours, alpha, items = Decay(groups=3, within=0.8, between=0.5), 4, 0.6, 9
    rows, vectors = [], []
    for user in range(12):
        baskets = [(rng.random(items) < 0.4).astype(float) for _ in range(1 + user % 7)]
        baskets = [basket if basket.any() else np.eye(items)[user % items] for basket in baskets]
        vectors.append(user_vector(baskets, decay))
        for number, basket in enumerate(baskets):
            rows += [(f"u{user:02d}", f"i{item}", 60 - number) for item in np.flatnonzero(basket)]
    shopping = shop(rows)
    assert len(shopping.item_ids) == items
    scorer = TifuKnn(decay, neighbours, alpha).fit(shopping, NOW)
    np.testing.assert_allclose(scorer.vectors.toarray(), vectors, atol=1e-6)
    own = shopping.users == 6
    times = shopping.times_us[own].astype("datetime64[us]")
    scores = scorer.score([History(shopping.item_ids[shopping.items[own]], times)], NOW)[0]
    distance = ((np.array(vectors) - vectors[6]) ** 2).sum(axis=1)
    around = np.array(vectors)[np.argsort(distance)[:neighbours]].mean(axis=0)
    np.testing.assert_allclose(scores, alpha * vectors[6] + (1 - alpha) * around, atol=1e-5)


def test_strangers_and_newcomers_get_answers() -> None:
    scorer = TifuKnn(neighbours=99).fit(shop([("u", "a", 9), ("v", "b", 8)]), NOW)
    assert np.isfinite(scorer.score([History.empty(), History(["?"], [NOW])], NOW)).all()
