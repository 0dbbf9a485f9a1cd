"""From the event log to what policies know: each shown item once, with all that it earned, and nothing before its time."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from endcap.cli import app
from endcap.config import Settings
from endcap.data import event_tables
from endcap.data.event_tables import microseconds
from endcap.data.policy_log import PolicyLog
from endcap.errors import ConfigError
from endcap.exploring import Policies
from endcap.pipeline.policy_learning import Learnt, learn_due
from endcap.policy import state_files
from endcap.policy.features import NAMES
from endcap.policy.linear import Statistics

HOUR = timedelta(hours=1)
T0 = datetime(2026, 11, 1, 12, tzinfo=UTC)
REWARDS = {"click": {"reward": 1.0, "hours": 2.0}, "purchase": {"reward": 5.0, "hours": 24.0}}
POLICIES = Policies.model_validate({"rewards": REWARDS, "late_hours": 1.0, "keep": 3})


def vector(number: int) -> np.ndarray:
    return np.random.default_rng(number).normal(size=len(NAMES)).astype("<f4")


class Log:
    """An event log whose rows are written at the moments that a test says."""

    def __init__(self, settings: Settings, url: str = "") -> None:
        self.log, self.folder = PolicyLog(url or settings.event_log_url), settings.paths.policies
        self.log.create()
        self.engine = self.log._engine

    def show(self, number: int, item: str = "mug", at: datetime = T0, user: str | None = "ann", **more: Any) -> None:
        row = {
            "request_id": f"r{number}", "rank": 1, "user_id": user, "surface": "home", "time": at, "item_id": item,
            "score": 1.0, "propensity": 0.5, "policy": "tried@1", "model_version": "1", "fallback": False,
            "feature_set": "linear-1", "features": vector(number).tobytes(), **more,
        }  # fmt: skip
        self.log.append_exposures([row])
        self.logged(number, more.get("logged", at))

    def logged(self, number: int, at: datetime) -> None:
        t = event_tables.exposures
        with self.engine.begin() as connection:
            connection.execute(sa.update(t).where(t.c.request_id == f"r{number}").values(logged_at=microseconds(at)))

    def act(self, number: int, kind: str = "click", item: str = "mug", at: datetime = T0 + HOUR, **more: Any) -> None:
        event = {"event_id": f"e{number}", "type": kind, "user_id": "ann", "item_id": item, "time": at, "quantity": 1.0, **more}
        self.log.append([event])

    def learn(self, now: datetime, policies: Policies = POLICIES, anew: bool = False) -> Learnt:
        return learn_due(self.log, self.folder, policies, now, anew)

    def known(self) -> Statistics:
        state = state_files.newest(self.folder).state
        assert state is not None
        return state.about(NAMES)

    def expect(self, rewards: dict[int, float]) -> None:
        """The state is exactly what these rows say."""
        features = np.stack([vector(number) for number in rewards]).astype(float)
        earned = np.array(list(rewards.values()))
        known = self.known()
        assert known.rows == len(rewards)
        np.testing.assert_allclose(known.xx, features.T @ features)
        np.testing.assert_allclose(known.xr, features.T @ earned)
        assert known.rr == pytest.approx(float(earned @ earned))


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def shop(settings: Settings, request: pytest.FixtureRequest) -> Iterator[Log]:
    """On either database."""
    shop = Log(settings, str(request.getfixturevalue("postgres_url")) if request.param == "postgres" else "")
    yield shop
    shop.log.close()


def test_a_shown_item_is_learnt_with_all_that_it_earned_once_its_time_is_over(shop: Log) -> None:
    shop.show(1)
    shop.show(2, "pot")
    shop.act(1, "click", request_id="r1")
    shop.act(2, "click", request_id="r1", at=T0 + 1.5 * HOUR)  # once more: earns once
    shop.act(3, "purchase", request_id="r1", at=T0 + 20 * HOUR)
    shop.act(4, "click", "pot", request_id="r2", at=T0 + 3 * HOUR)  # after its two hours
    early = shop.learn(T0 + 24.9 * HOUR)
    assert (early.learnt, early.waiting, early.state) == (0, 2, None)
    told = shop.learn(T0 + 25 * HOUR)
    assert (told.learnt, told.rewarded, told.waiting, told.rows) == (2, 1, 0, 2)
    shop.expect({1: 6.0, 2: 0.0})


def test_nothing_is_learnt_twice_however_often_it_runs(shop: Log) -> None:
    shop.show(1)
    shop.act(1, request_id="r1")
    for hours in (25, 25, 26, 80):
        shop.learn(T0 + hours * HOUR)
    shop.expect({1: 1.0})
    shop.show(2, at=T0 + 60 * HOUR)
    assert shop.learn(T0 + 84 * HOUR).learnt == 0
    assert shop.learn(T0 + 85 * HOUR).learnt == 1
    shop.expect({1: 1.0, 2: 0.0})
    assert len(state_files.names(shop.folder)) == 2


def test_an_event_without_a_request_counts_for_the_last_slate_alone_though_that_is_learnt_later(shop: Log) -> None:
    shop.show(1)
    shop.show(2, at=T0 + 10 * HOUR)
    shop.act(1, "purchase", at=T0 + 11 * HOUR)
    shop.learn(T0 + 26 * HOUR)
    shop.expect({1: 0.0})
    shop.learn(T0 + 36 * HOUR)
    shop.expect({1: 0.0, 2: 5.0})


def test_a_slate_of_another_policy_takes_its_own_events_though_nothing_is_learnt_of_it(shop: Log) -> None:
    shop.show(1)
    shop.show(2, at=T0 + HOUR, features=None, feature_set=None)
    shop.act(1, at=T0 + 1.5 * HOUR)
    shop.learn(T0 + 40 * HOUR)
    shop.expect({1: 0.0})


def test_a_row_that_is_written_late_or_speaks_of_long_ago_is_learnt_once(shop: Log) -> None:
    shop.show(1)
    shop.learn(T0 + 30 * HOUR)
    shop.show(2, at=T0 - 900 * HOUR, logged=T0 + 31 * HOUR)
    shop.act(1, request_id="r2", at=T0 - 899 * HOUR)
    assert shop.learn(T0 + 31.5 * HOUR).learnt == 0  # its events may be on their way
    assert shop.learn(T0 + 32 * HOUR).learnt == 1
    assert shop.learn(T0 + 99 * HOUR).learnt == 0
    shop.expect({1: 0.0, 2: 1.0})


def test_a_return_earns_nothing(shop: Log) -> None:
    shop.show(1)
    shop.act(1, "purchase", request_id="r1", quantity=-1.0)
    shop.learn(T0 + 30 * HOUR)
    shop.expect({1: 0.0})


def test_many_days_in_parts_are_many_days_at_once(shop: Log) -> None:
    random, truth = np.random.default_rng(4), {}
    for number in range(120):
        at = T0 + float(random.uniform(0, 240)) * HOUR
        shop.show(number, f"item{number % 7}", at)
        truth[number] = float(random.random() < 0.4)
        if truth[number]:
            shop.act(number, item=f"item{number % 7}", at=at + 0.5 * HOUR, request_id=f"r{number}")
    for hours in (26, 49, 100, 130, 260, 280):
        shop.learn(T0 + hours * HOUR)
    shop.expect(truth)
    shop.learn(T0 + 300 * HOUR, anew=True)
    shop.expect(truth)


def test_learners_at_once_learn_once(shop: Log) -> None:
    for number in range(40):
        shop.show(number)
    told: list[Learnt] = []
    threads = [threading.Thread(target=lambda: told.append(shop.learn(T0 + 30 * HOUR))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.learnt for one in told) == [0, 0, 0, 40]
    assert shop.known().rows == 40


def test_a_broken_state_is_passed_over_by_name_and_what_it_knew_is_learnt_again(shop: Log) -> None:
    shop.show(1)
    shop.learn(T0 + 30 * HOUR)
    shop.show(2, at=T0 + 10 * HOUR)
    shop.logged(2, T0 + 31 * HOUR)
    newest = shop.learn(T0 + 40 * HOUR).state
    assert newest is not None
    (shop.folder / newest).write_text("{}")
    told = shop.learn(T0 + 50 * HOUR)
    assert (told.learnt, told.rows) == (1, 2)
    assert told.refused[0].startswith(newest)
    shop.expect({1: 0.0, 2: 0.0})


def test_other_rewards_are_refused_until_all_is_learnt_anew(shop: Log) -> None:
    shop.show(1)
    shop.act(1, request_id="r1")
    shop.learn(T0 + 30 * HOUR)
    dearer = Policies.model_validate({"rewards": {"click": {"reward": 3.0, "hours": 2.0}}})
    with pytest.raises(ConfigError, match=r"^policies\.rewards: .*--anew"):
        shop.learn(T0 + 40 * HOUR, dearer)
    shop.learn(T0 + 40 * HOUR, dearer, anew=True)
    shop.expect({1: 3.0})


def test_rows_of_another_version_are_told_and_left_out(shop: Log) -> None:
    shop.show(1)
    shop.show(2, feature_set="linear-0")
    told = shop.learn(T0 + 30 * HOUR)
    assert (told.learnt, told.unknown) == (1, {"linear-0": 1})
    shop.expect({1: 0.0})


def test_an_older_log_gets_its_columns(shop: Log) -> None:
    with shop.engine.begin() as connection:
        connection.exec_driver_sql("DROP INDEX exposures_by_logging")
        for name in ("logged_at", "feature_set", "features"):
            connection.exec_driver_sql(f"ALTER TABLE exposures DROP COLUMN {name}")
    shop.log.create()
    shop.log.create()
    shop.show(1)
    assert shop.learn(T0 + 30 * HOUR).learnt == 1


def test_the_command_says_what_it_did(settings: Settings) -> None:
    shop = Log(settings)
    assert "Nothing is learnt yet." in CliRunner().invoke(app, ["learn-policy"]).output
    shop.show(1, at=T0 - 9000 * HOUR)
    found = json.loads(CliRunner().invoke(app, ["learn-policy", "--json"]).output)
    assert (found["learnt"], found["rows"]) == (1, 1)
    output = CliRunner().invoke(app, ["learn-policy"]).output
    assert "Learnt 0 shown items" in output
    assert found["state"] in output
