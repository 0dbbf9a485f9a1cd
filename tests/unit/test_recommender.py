"""One request, on a shelf of six items."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
import torch
from tests.fixtures.tiny_model import UNTIL, tiny_catalog, tiny_events, tiny_text

from endcap.data.features import SURFACE_CODES, interactions_from_events
from endcap.models.history import Floats, History
from endcap.ranking.items import Filters, ItemTable
from endcap.recommender import Recommender, Request, _best
from endcap.training.fitting import fit_full
from endcap.training.options import FitOptions

NOW = datetime(2026, 1, 15, tzinfo=UTC)
ROWS = [
    {"item_id": "tea", "title": "Green tea", "category": "drinks", "brand": "Leaf", "price": 4.0},
    {"item_id": "mate", "title": "Mate tea", "category": "drinks", "brand": "Leaf", "price": 5.0},
    {"item_id": "coffee", "title": "Dark coffee", "category": "drinks", "brand": "Bean", "price": 9.0},
    {"item_id": "mug", "title": "Blue mug", "category": "crockery", "brand": None, "price": 7.0},
    {"item_id": "pot", "title": "Tea pot", "category": "crockery", "brand": "Clay", "price": 25.0},
    {"item_id": "gift", "title": "Surprise", "category": None, "brand": None, "price": None},
]
IDS = [str(row["item_id"]) for row in ROWS]


class Counts:
    """Base scores fall with position; an item gains 10 for each time it is in the history; tea goes with the pot."""

    def __init__(self, item_ids: Sequence[str] = tuple(IDS)) -> None:
        self.item_ids = list(item_ids)
        self.vectors = np.zeros((len(item_ids), 0), np.float32)

    @property
    def item_vectors(self) -> Floats:
        return self.vectors

    def score(self, histories: Sequence[History], now: datetime, surface: str = "") -> Floats:
        parts = self.score_parts(histories, now, surface)
        return (parts["recent"] + parts["own"] + parts["collaborative"]).astype(np.float32)

    def score_parts(self, histories: Sequence[History], now: datetime, surface: str = "") -> dict[str, Floats]:
        shape = (len(histories), len(self.item_ids))
        own, together = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for row, history in enumerate(histories):
            for item in history.item_ids:
                if item in self.item_ids:
                    own[row, self.item_ids.index(item)] += 10
                if item == "tea" and "pot" in self.item_ids:
                    together[row, self.item_ids.index("pot")] = 0.5
        base = np.linspace(1, 0, shape[1], dtype=np.float32)
        return {"recent": np.repeat(base[None, :], shape[0], axis=0), "own": own, "collaborative": together}


@pytest.fixture
def recommender() -> Recommender:
    return Recommender(Counts(), ItemTable.of(ROWS, IDS), repeat_surfaces=["home"])


def bought(*items: str, kind: str = "purchase") -> History:
    return History(list(items), [NOW - timedelta(days=len(items) - place) for place in range(len(items))], kind)


def shown(recommender: Recommender, history: History | None = None, **more: object) -> list[str]:
    request = Request(history or History.empty(), NOW, **more)  # type: ignore[arg-type]
    return [place.item_id for place in recommender.recommend(request)]


def test_a_stranger_sees_the_best_first(recommender: Recommender) -> None:
    slate = recommender.recommend(Request(History.empty(), NOW, k=3))
    assert [(place.item_id, place.rank, place.propensity) for place in slate] == [
        ("tea", 1, 1.0),
        ("mate", 2, 1.0),
        ("coffee", 3, 1.0),
    ]
    assert slate[0].score > slate[1].score > slate[2].score
    assert slate[0].reasons == ()


def test_what_was_bought_comes_back_only_where_the_surface_repeats(recommender: Recommender) -> None:
    assert shown(recommender, bought("gift"), surface="home")[0] == "gift"
    assert "gift" not in shown(recommender, bought("gift"), surface="product")
    assert "gift" in shown(recommender, bought("gift", kind="view"), surface="product")


def test_a_returned_purchase_does_not_hide_the_item(recommender: Recommender) -> None:
    returned = History(["gift"], [NOW], "purchase", [-1.0])
    assert "gift" in shown(recommender, returned, surface="product")


def test_the_surface_and_the_moment_of_a_request_reach_the_network() -> None:
    catalog = tiny_catalog()
    known = interactions_from_events(tiny_events(), list(catalog["item_id"]))
    model = fit_full(known, catalog, tiny_text(), UNTIL, FitOptions(dim=16, max_epochs=1, context=True)).model
    recommender = Recommender(
        model, ItemTable.of(catalog.to_dict("records"), model.item_ids), repeat_surfaces=["home", "email"]
    )
    occasions, wished = model.model.occasions, model.item_ids[3]
    with torch.no_grad():
        wish = 9 * torch.from_numpy(model.item_vectors[3])
        occasions.surfaces.weight[SURFACE_CODES["email"]], occasions.hours.weight[7] = wish, wish

    def network(surface: str, hour: int) -> str:
        request = Request(History.empty(), UNTIL.replace(hour=hour), surface=surface, explain=True)
        np.testing.assert_array_equal(recommender.rank(request), model.score([request.history], request.now, surface)[0])
        assert all(place.reasons for place in recommender.recommend(request))
        parts = model.score_parts([request.history], request.now, surface)
        np.testing.assert_allclose(recommender.rank(request), np.sum([part[0] for part in parts.values()], axis=0), atol=1e-4)
        return model.item_ids[int(parts["sequence"][0].argmax())]

    assert network("home", 3) != wished
    assert network("email", 3) == network("home", 7) == wished
    asked = [recommender.rank(Request(History.empty(), UNTIL, surface=surface)) for surface in ("home", "email")]
    assert not np.allclose(*asked)


def test_what_was_dismissed_or_hidden_is_not_shown(recommender: Recommender) -> None:
    assert "tea" not in shown(recommender, bought("tea", kind="dismiss"))
    assert shown(recommender, hidden=frozenset({"tea", "unknown"}))[0] == "mate"


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(categories=frozenset({"crockery"})), ["mug", "pot"]),
        (Filters(brands=frozenset({"Leaf", "Clay"})), ["tea", "mate", "pot"]),
        (Filters(price_min=5.0, price_max=9.0), ["mate", "coffee", "mug"]),
        (Filters(categories=frozenset({"drinks"}), price_max=4.0), ["tea"]),
        (Filters(categories=frozenset({"garden"})), []),
    ],
)
def test_filters_narrow_the_shelf(recommender: Recommender, filters: Filters, expected: list[str]) -> None:
    assert shown(recommender, filters=filters) == expected


def test_an_item_is_shown_from_the_moment_it_is_listed() -> None:
    listed = {"tea": NOW + timedelta(seconds=1), "mate": NOW, "coffee": NOW.astimezone(timezone(timedelta(hours=-8)))}
    rows = [row | {"available_from": listed.get(str(row["item_id"]))} for row in ROWS]
    early = Recommender(Counts(), ItemTable.of(rows, IDS), repeat_surfaces=["home"])
    assert shown(early)[:3] == ["mate", "coffee", "mug"]
    later = early.recommend(Request(History.empty(), NOW + timedelta(seconds=1)))
    assert later[0].item_id == "tea"


def test_unknown_items_in_a_history_are_ignored(recommender: Recommender) -> None:
    assert shown(recommender, bought("never-seen")) == shown(recommender)


def test_an_empty_catalogue_shows_nothing() -> None:
    assert shown(Recommender(Counts([]), ItemTable.of([], []), ["home"]), bought("tea")) == []


def test_scores_that_are_no_numbers_are_never_shown(recommender: Recommender) -> None:
    recommender.model.score = lambda histories, now, surface: np.full((1, len(IDS)), np.nan, np.float32)  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="finite"):
        shown(recommender)


def test_diversity_trades_likeness_for_variety(recommender: Recommender) -> None:
    assert shown(recommender, k=2, diversity=0.0) == ["tea", "mate"]
    varied = shown(recommender, k=2, diversity=0.5)
    assert varied[0] == "tea"
    assert varied[1] != "mate"
    assert sorted(shown(recommender, k=6, diversity=1.0)) == sorted(IDS)


def test_reasons_speak_of_the_shopper(recommender: Recommender) -> None:
    request = Request(bought("tea", "tea", "tea", "tea"), NOW, k=6, explain=True)
    reasons = {place.item_id: place.reasons for place in recommender.recommend(request)}
    assert reasons["tea"][0].text == "You bought this 4 times"
    assert reasons["pot"][0].text == "Bought together with Green tea"
    assert reasons["pot"][0].item_id == "tea"
    assert reasons["mate"][0].kind == "popular"
    assert reasons["gift"][0].kind == "taste"  # the least popular item and nothing to say for it
    assert all(1 <= len(found) <= 2 for found in reasons.values())


def test_alike_items_are_called_similar(recommender: Recommender) -> None:
    model = recommender.model
    assert isinstance(model, Counts)
    model.vectors = np.array([[1, 0], [0.9, 0.1], [0, 1], [-1, 0], [0, -1], [-1, 1]], np.float32)
    request = Request(bought("tea"), NOW, k=6, explain=True)
    reasons = {place.item_id: place.reasons for place in recommender.recommend(request)}
    assert next(r.text for r in reasons["mate"]) == "Similar to Green tea"
    assert all(reason.kind != "similar" for reason in reasons["mug"])


def test_a_stranger_also_gets_reasons(recommender: Recommender) -> None:
    slate = recommender.recommend(Request(History.empty(), NOW, k=6, explain=True))
    assert {reason.kind for place in slate for reason in place.reasons} == {"popular"}


def test_the_head_is_ordered_as_a_full_stable_sort_would() -> None:
    scores = np.array([1, 3, 2, 3, 3, 0, 2], np.float32)
    full = np.argsort(-scores, kind="stable")
    for wanted in range(1, len(scores) + 1):
        assert list(_best(scores, wanted)) == list(full[:wanted])
