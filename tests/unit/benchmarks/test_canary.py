"""The made-up requests of the canary benchmark: running tallies are those of whole columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import canary as known
from benchmarks import canary_shop
from benchmarks.canary import at_the_bar, canaries, coverage, draw, project_settings
from benchmarks.canary_shop import CANDIDATES, Shop, Visits
from endcap.evaluation.sequential import Tally


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop(1.0, shoppers=3000)


def test_running_tallies_are_those_of_all_requests_so_far(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary_shop, "BLOCK", 2000)
    visits, kept = Visits(shop, CANDIDATES["worse"], 0.5, np.random.default_rng(1), ("clicks", "latency_ms")), []
    values_of = visits._values

    def spy(who: np.ndarray, at: np.ndarray) -> dict[str, np.ndarray]:
        values = values_of(who, at)
        kept.append((who, at, values))
        return values

    monkeypatch.setattr(visits, "_values", spy)
    visits.block()
    found = visits.block()
    who, at = (np.concatenate([one[i] for one in kept]) for i in (0, 1))
    upto = at < 3000  # the second look of the second block
    for name in ("clicks", "latency_ms"):
        value = np.concatenate([one[2][name] for one in kept])
        for mine, ours in ((found[name].candidate, True), (found[name].champion, False)):
            rows = upto & ((shop.places[who] < 0.5) == ours)
            whole = Tally.of(value[rows], who[rows], 500.0)
            for field in ("shoppers", "requests", "total", "requests_squared", "product", "total_squared"):
                assert np.asarray(getattr(mine, field))[1] == pytest.approx(getattr(whole, field)), (name, ours, field)


def test_rates_are_those_that_the_simulated_shop_has(shop: Shop) -> None:
    visits = Visits(shop, CANDIDATES["equal"], 0.5, np.random.default_rng(1), ("clicks", "purchases"))
    found = visits.block()
    quiet = 1 / (1 + canary_shop.RHYTHM)  # on average over a day
    for name, rate in shop.rates().items():
        assert float(np.asarray(found[name].champion.mean)[-1]) == pytest.approx(rate * quiet, rel=0.05)


def test_days_are_at_least_the_hours_of_steps_gone_through_and_going_back_waits_for_none() -> None:
    steps = [{"action": "advance", "requests": 10_000}, {"action": "advance", "requests": 300_000}]
    assert known._days(steps, project_settings(), 100_000) == pytest.approx(1.0 + 3.0)
    assert known._days([{"action": "roll_back", "requests": 10_000}], project_settings(), 100_000) == pytest.approx(0.1)


def test_figures_have_all_candidates_and_a_picture(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "MOST", 100_000)
    monkeypatch.setattr(known, "WATCHED", 50_000)
    settings = project_settings()
    settings = settings.model_copy(update={"steps": settings.steps[-1:]})
    candidates = {name: canaries(shop, name, settings, 2, 1) for name in ("equal", "slower")}
    assert candidates["equal"]["roll_back"] == 0.0
    assert (candidates["slower"]["roll_back"], candidates["slower"]["rolled_back_by"]) == (1.0, {"latency_ms": 2})
    watched = [coverage(shop, "equal", settings, 0, 2)]
    assert set(watched[0]["sequence"]) == set(settings.guards)
    assert watched[0]["sequence"]["errors"] == 1.0
    assert sum(at_the_bar(shop, settings, 2)[action] for action in ("advance", "roll_back", "wait")) == 1.0
    draw({"worlds": {"shop": {"candidates": candidates}}, "coverage": watched, "confidence": 0.95}, tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 1000
