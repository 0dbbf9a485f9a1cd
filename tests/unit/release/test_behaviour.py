"""For each behavioural gate and budget: a model that passes, and one that cannot."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from endcap.models.history import Floats, History
from endcap.release import behaviour

NOW = datetime(2011, 11, 7, tzinfo=UTC)
CATALOG = {f"item{n}" for n in range(20)}
HISTORIES = [History(["item1", f"item{n}"], [NOW - timedelta(days=2), NOW - timedelta(days=1)]) for n in range(2, 12)]


class Shelf:
    """Scores by place; the newest item of a history comes first."""

    item_ids = sorted(CATALOG)

    def score(self, histories: Sequence[History], now: datetime) -> Floats:
        scores = np.tile(np.linspace(1, 0, len(self.item_ids), dtype=np.float32), (len(histories), 1))
        for row, history in enumerate(histories):
            for place, item in enumerate(history.item_ids):
                if item in self.item_ids:
                    scores[row, self.item_ids.index(item)] += 1 + place
        return scores

    def score_parts(self, histories: Sequence[History], now: datetime) -> dict[str, Floats]:
        return {"sequence": self.score(histories, now)}


class Dead(Shelf):
    """Its counters know the order, its transformer says the same to everybody."""

    def score_parts(self, histories: Sequence[History], now: datetime) -> dict[str, Floats]:
        counters = self.score(histories, now)
        return {"sequence": np.zeros_like(counters), "recent": counters}


class Unordered(Shelf):
    """Knows what was bought, not in which order."""

    def score(self, histories: Sequence[History], now: datetime) -> Floats:
        return super().score([History(sorted(h.item_ids), h.times) for h in histories], now)


class Flat(Shelf):
    """Gives everything the same score to whom it does not know."""

    def score(self, histories: Sequence[History], now: datetime) -> Floats:
        return np.zeros((len(histories), len(self.item_ids)), np.float32)


class Broken(Shelf):
    def score(self, histories: Sequence[History], now: datetime) -> Floats:
        scores = super().score(histories, now)
        scores[:, 0] = np.nan
        return scores


class Slow(Shelf):
    def score(self, histories: Sequence[History], now: datetime) -> Floats:
        time.sleep(0.02)
        return super().score(histories, now)


def test_recommended_items_exist() -> None:
    assert behaviour.existing_items(Shelf(), HISTORIES, CATALOG, NOW, 5).result.passed

    delisted = behaviour.existing_items(Shelf(), HISTORIES, CATALOG - {"item1"}, NOW, 5).result
    assert not delisted.passed
    assert "item1" in delisted.observed


def test_history_order_matters() -> None:
    assert behaviour.order_matters(Shelf(), HISTORIES, NOW).result.passed
    assert not behaviour.order_matters(Unordered(), HISTORIES, NOW).result.passed
    assert not behaviour.order_matters(Dead(), HISTORIES, NOW).result.passed
    assert not behaviour.order_matters(Shelf(), [History.empty()], NOW).result.passed


def test_an_unknown_shopper_gets_a_ranked_answer() -> None:
    assert behaviour.unknown_shopper(Shelf(), NOW, 10).result.passed
    assert not behaviour.unknown_shopper(Flat(), NOW, 10).result.passed


def test_scores_are_finite() -> None:
    sound, broken = behaviour.Guarded(Shelf()), behaviour.Guarded(Broken())
    for model in (sound, broken):
        behaviour.existing_items(model, HISTORIES, CATALOG, NOW, 5)

    assert behaviour.finite_scores(sound).result.passed
    assert not behaviour.finite_scores(broken).result.passed
    assert "11 of 220" in behaviour.finite_scores(broken).result.observed


def test_a_broken_score_is_never_recommended() -> None:
    scores = behaviour.Guarded(Broken()).score(HISTORIES, NOW)

    assert np.isfinite(scores).all()
    assert (scores.argmax(axis=1) != 0).all()


def test_coverage_counts_only_the_catalogue() -> None:
    slates = [["item1", "item2"], ["item2", "item3"], ["elsewhere"]]

    assert behaviour.coverage(slates, CATALOG, 0.15).result.passed
    assert not behaviour.coverage(slates, CATALOG, 0.16).result.passed


def test_latency_has_a_budget() -> None:
    assert behaviour.latency(Shelf(), HISTORIES, NOW, 5, max_ms=10_000).result.passed
    assert not behaviour.latency(Slow(), HISTORIES[:2], NOW, 5, max_ms=19).result.passed


def test_size_has_a_budget(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "weights").write_bytes(b"0" * 2_000_000)

    assert behaviour.size(tmp_path, 2.0).result.passed
    assert not behaviour.size(tmp_path, 1.9).result.passed


def test_the_sample_is_spread_over_the_shoppers() -> None:
    many = [History([f"item{n}"], [NOW]) for n in range(1000)]

    sample = behaviour.sample_histories(many)

    assert len(sample) == behaviour.SAMPLE
    assert sample[-1].item_ids[0] == "item945"
