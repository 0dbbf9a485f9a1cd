"""From event tables to interactions: what counts, and what was known when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pyarrow as pa

from endcap.data.features import (
    COUNTRIES,
    FAR_FUTURE,
    TYPES,
    choose_targets,
    country_codes,
    interactions_from_events,
    to_microseconds,
    usable_prices,
    usable_quantities,
)

NOW = datetime(2011, 10, 31, tzinfo=UTC)


def events(*rows: tuple[str, str | None, str, float, float]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["type", "user_id", "item_id", "days_ago", "quantity"])
    return frame.assign(time=[pd.Timestamp(NOW - timedelta(days=days)) for days in frame.pop("days_ago")])


def test_a_country_has_one_code_however_it_is_spelt_and_whoever_asks() -> None:
    names = ["France", " france", "FRANCE ", "Spain", "Åland", "", "  ", None, float("nan"), pd.NA]
    codes = country_codes(pd.Series(names, dtype=object), len(names))
    assert codes.tolist() == country_codes(names, len(names)).tolist()
    assert len(set(codes[:3].tolist())) == 1
    assert len(set(codes[2:5].tolist())) == 3
    assert not codes[5:].any()
    many = country_codes([f"country {number}" for number in range(9_999)], 9_999)
    assert set(many.tolist()) == set(range(1, COUNTRIES + 1))


def test_only_positive_events_of_known_shoppers_count() -> None:
    frame = events(
        ("purchase", "u", "b", 1, 1),
        ("purchase", "u", "a", 2, 1),
        ("impression", "u", "c", 3, 1),
        ("purchase", None, "d", 4, 1),
        ("purchase", "u", "e", 5, -1),
        ("view", "u", "f", 6, float("nan")),
    )
    found = interactions_from_events(frame, ["z", "a"])
    assert found.item_ids.tolist() == ["z", "a", "b", "f"]
    assert found.item_ids[found.items].tolist() == ["f", "a", "b"]
    assert found.targets().items.tolist() == [1, 2]
    assert (found.cancelled_us == FAR_FUTURE).all()


def test_an_arrow_table_is_the_same_as_a_frame() -> None:
    frame = events(("purchase", "u", "a", 2, 1), ("purchase", "v", "b", 1, 1))
    one, other = interactions_from_events(frame), interactions_from_events(pa.Table.from_pandas(frame))
    assert one.times_us.tolist() == other.times_us.tolist()


def test_known_at_is_strictly_before() -> None:
    found = interactions_from_events(events(("purchase", "u", "a", 1, 1), ("purchase", "u", "a", 0, 1)))
    assert len(found.known_at(NOW)) == 1
    assert len(found.between(NOW - timedelta(days=1), NOW)) == 1


def test_a_moment_is_the_same_number_in_any_zone_to_the_microsecond() -> None:
    moment = datetime(2004, 8, 12, 6, 44, 37, 257017, tzinfo=UTC)
    elsewhere = moment.astimezone(timezone(timedelta(hours=9)))
    forms = [moment, elsewhere, moment.replace(tzinfo=None), pd.Timestamp(moment)]
    assert {to_microseconds(form) for form in forms} == {1_092_293_077_257_017}


def test_targets_are_purchases_else_carts_else_all() -> None:
    def named(kinds: list[str]) -> set[str]:
        codes = interactions_from_events(events(*((kind, "u", "a", 1.0, 1.0) for kind in kinds))).types
        return {name for name, flag in zip(TYPES, choose_targets(codes), strict=True) if flag}

    assert named(["view", "cart", "purchase"]) == {"purchase"}
    assert named(["view", "cart"]) == {"cart"}
    assert named(["view"]) == {"purchase", "cart", "rating", "click", "view"}


def test_no_events_make_no_interactions() -> None:
    empty = interactions_from_events(events().astype({"time": "datetime64[us, UTC]"}), ["a"])
    assert (len(empty), empty.item_ids.tolist()) == (0, ["a"])


def test_amounts_that_32_bits_cannot_weigh_count_as_not_given() -> None:
    given = np.array([2.5, 1e-300, np.inf, np.nan, 1e300])
    assert usable_quantities(given).tolist() == [2.5, 1, 1, 1, 1]
    assert usable_quantities(-given).tolist() == [-2.5, 1, 1, 1, 1]
    prices = usable_prices(np.append(given, [-1.0, 0.0]))
    assert prices[0] == 2.5
    assert np.isnan(prices[1:]).all()
