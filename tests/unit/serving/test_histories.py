"""What is known of a shopper at one moment."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from tests.unit.serving.conftest import NOW, CountingModel

from endcap.contracts import EventType
from endcap.data.events import EventLog
from endcap.data.features import country_codes, interactions_from_events
from endcap.models.event_kinds import kinds_of
from endcap.models.history import History, encode
from endcap.ranking.items import ItemTable
from endcap.recommender import Recommender, Request
from endcap.serving.histories import what_is_known


def did(item: str, days_ago: float, quantity: float | None = 1.0, kind: str = "purchase") -> dict[str, Any]:
    return {"item_id": item, "type": kind, "time": NOW - timedelta(days=days_ago), "quantity": quantity}


def told(event: dict[str, Any], price: float | None, surface: str | None, country: str | None = None) -> dict[str, Any]:
    return event | {"price": price, "surface": surface, "country": country}


def items(*events: dict[str, Any], session: tuple[dict[str, Any], ...] = ()) -> list[str]:
    return list(what_is_known(events, session, NOW).item_ids)


def test_it_is_the_history_that_models_know() -> None:
    events = [did("mug", 2.5), did("fork", 1.123456789, None, "view"), did("bowl", 0)]
    known, expected = what_is_known(events, [], NOW), History.from_events(events)
    for name in ("item_ids", "times", "types"):
        assert list(getattr(known, name)) == list(getattr(expected, name))
    np.testing.assert_array_equal(known.quantities, expected.quantities)


def test_what_was_given_away_is_no_purchase_as_in_data_sets() -> None:
    assert items(told(did("mug", 3), 0.0, None), told(did("bowl", 2), 2.0, None), told(did("fork", 1), None, None)) == [
        "bowl",
        "fork",
    ]


def test_later_events_are_not_known_yet() -> None:
    assert items(did("mug", 1), did("fork", -1), session=(did("bowl", -0.1), did("plate", 0))) == ["mug", "plate"]


def test_a_session_event_that_is_logged_already_counts_once() -> None:
    assert items(did("mug", 1), session=(did("mug", 1), did("mug", 1, kind="view"))) == ["mug", "mug"]


def test_a_full_return_takes_back_the_newest_purchase_of_that_quantity() -> None:
    assert items(did("mug", 5, 2), did("fork", 4), did("mug", 3, 2), did("mug", 1, -2)) == ["mug", "fork"]
    assert list(what_is_known([did("mug", 5, 2), did("mug", 3, 3), did("mug", 1, -2)], [], NOW).quantities) == [3]


def test_a_partial_or_unpaired_return_takes_nothing_back() -> None:
    assert items(did("mug", 5, 3), did("mug", 1, -2)) == ["mug"]
    assert items(did("mug", 1, -2), did("mug", 0.5, 2)) == ["mug"]


def test_a_served_history_is_the_one_that_was_learnt(tmp_path: Path) -> None:
    log = EventLog(f"sqlite:///{tmp_path / 'events.db'}")
    log.create()
    log.append(
        [
            told(
                did(f"{kind}-{n}", 10 - n, 3.0 if n else None, kind),
                [None, 2.5, 0.0][n],
                [None, "email", "home"][n],
                ["France", "Spain", None][n],
            )
            | {"event_id": f"{kind}-{n}", "user_id": "u1"}
            for kind in EventType
            for n in range(2 + (kind is EventType.VIEW))  # the third view has a price of nothing
        ]
    )
    log.claim("log-1", NOW)
    learnt = interactions_from_events(log.read_batch("log-1"))
    served = what_is_known(log.history("u1", 100), [], NOW)
    index = {item: code for code, item in enumerate(learnt.item_ids)}
    known = encode([served], index, NOW)
    assert len(learnt) == 11  # purchase, cart, rating, click and view, twice, and a view
    assert known.codes.tolist() == learnt.items.tolist()
    assert known.types.tolist() == learnt.types.tolist()
    assert set(known.countries.tolist()) == {0, *country_codes(["France", "Spain"], 2).tolist()}
    for name in ("quantities", "prices", "surfaces", "countries"):
        np.testing.assert_array_equal(getattr(known, name), getattr(learnt, name))
    kinds = [kinds_of(one.types, one.quantities, one.prices, one.surfaces, one.countries) for one in (known, learnt)]
    np.testing.assert_array_equal(*kinds)
    assert len(set(kinds[0].tolist())) > 5
    assert set(served.item_ids) - set(learnt.item_ids) == {"dismiss-0", "dismiss-1"}
    rows = [{"item_id": item, "title": item} for item in ("dismiss-0", "dismiss-1", "view-0")]
    shop = Recommender(
        CountingModel([row["item_id"] for row in rows], [3, 2, 1]), ItemTable.of(rows, [r["item_id"] for r in rows]), ["home"]
    )
    assert [shown.item_id for shown in shop.recommend(Request(served, NOW))] == ["view-0"]
    log.close()
