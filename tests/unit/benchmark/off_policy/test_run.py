"""From two files to a result: a made-up shop whose truth is known, and files that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from endcap.benchmark.off_policy.judge import CHOICES, MARGINAL, SLATES, slates_of
from endcap.benchmark.off_policy.log_file import read_log
from endcap.benchmark.off_policy.policy_file import read_policy
from endcap.benchmark.off_policy.run import run
from endcap.cli import app
from endcap.errors import EstimateRefused, InputError
from endcap.training.outcomes import settle

LOGGING = np.array([[0.4, 0.3, 0.2, 0.1], [0.25, 0.25, 0.25, 0.25]])  # (places, items)
PLAYED = np.array([[0.2, 0.2, 0.3, 0.3], [0.1, 0.2, 0.3, 0.4]])
EARNS = np.array([[0.1, 0.2, 0.3, 0.4], [0.05, 0.1, 0.15, 0.2]])
TRUTH = float((PLAYED * EARNS).sum(axis=1).mean())


def make_log(requests: int = 1500, seed: int = 1) -> pd.DataFrame:
    """Slates of two places, three requests a shopper."""
    rng = np.random.default_rng(seed)
    parts = []
    for place in range(2):
        items = rng.choice(4, p=LOGGING[place], size=requests)
        parts.append(
            pd.DataFrame(
                {
                    "request_id": [f"r{number}" for number in range(requests)],
                    "user_id": [f"u{number // 3}" for number in range(requests)],
                    "time": pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.arange(requests), unit="min"),
                    "item_id": [f"i{item}" for item in items],
                    "rank": place + 1,
                    "propensity": LOGGING[place, items],
                    "click": (rng.random(requests) < EARNS[place, items]).astype(int),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def make_policy(table: np.ndarray = PLAYED) -> pd.DataFrame:
    rows = [(f"i{item}", place + 1, table[place, item]) for place in range(2) for item in range(4)]
    return pd.DataFrame(rows, columns=["item_id", "rank", "probability"])


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    def write(log: pd.DataFrame, policy: pd.DataFrame) -> tuple[Path, Path]:
        log.to_csv(tmp_path / "log.csv", index=False)
        policy.to_csv(tmp_path / "policy.csv", index=False)
        return tmp_path / "log.csv", tmp_path / "policy.csv"

    return write


def test_all_estimators_come_near_the_truth(files: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    log, policy = files(make_log(), make_policy())
    items = tmp_path / "items.csv"
    items.write_text("item_id,category\ni0,a\ni1,b\ni2,c\ni3,d\n")
    result = run(log, policy, tmp_path / "out" / "r.json", items=items)
    assert list(result["estimates"]) == [*CHOICES, *MARGINAL, *SLATES]
    assert not result["refused"]
    for name, one in result["estimates"].items():
        assert one["value"] == pytest.approx(TRUTH, abs=0.03), name
        assert one["low"] <= one["value"] <= one["high"]
    for name in ("ipw", "snipw", "dr", "sndr", "mips", "sips", "iips", "rips", "cascade_dr"):
        assert result["estimates"][name]["low"] <= TRUTH <= result["estimates"][name]["high"], name
    assert result["estimates"]["iips"]["value"] == pytest.approx(result["estimates"]["ipw"]["value"])
    assert result["estimates"]["dr"]["minus_logging"]["low"] > 0
    assert result["estimates"]["ipw"]["bernstein"]["low"] < result["estimates"]["ipw"]["low"]
    assert result["overlap"]["mean_weight"] == pytest.approx(1, abs=0.05)
    assert result["log"]["clusters"] == 500
    assert set(result["data"]) == {"log", "policy", "items"}
    assert json.loads((tmp_path / "out" / "r.json").read_text()) == result
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["r.json", "r.png"]


def test_the_logs_own_policy_earns_what_was_logged(files: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    log, policy = files(make_log(600), make_policy(LOGGING))
    result = run(log, policy, tmp_path / "r.json")
    for name in ("ipw", "snipw", "sips", "snrips"):
        assert result["estimates"][name]["value"] == pytest.approx(result["logging"]["value"])
        assert result["estimates"][name]["minus_logging"]["high"] == pytest.approx(0, abs=1e-12)


def test_columns_of_open_bandit_places_from_zero_parquet_and_order_make_no_difference(tmp_path: Path) -> None:
    log, policy = make_log(900), make_policy()
    log.to_csv(tmp_path / "a.csv", index=False)
    names = {"rank": "position", "propensity": "propensity_score", "time": "timestamp"}
    other = log.rename(columns=names).assign(position=log["rank"] - 1).sample(frac=1, random_state=1)
    other.to_parquet(tmp_path / "b.parquet", index=False)
    policy.to_csv(tmp_path / "p.csv", index=False)
    policy.assign(rank=policy["rank"] - 1).rename(columns={"rank": "position"}).to_parquet(tmp_path / "q.parquet", index=False)
    one = run(tmp_path / "a.csv", tmp_path / "p.csv", tmp_path / "one.json")
    two = run(tmp_path / "b.parquet", tmp_path / "q.parquet", tmp_path / "two.json")
    for name in ("ipw", "snipw", "sips", "rips"):
        assert one["estimates"][name]["value"] == pytest.approx(two["estimates"][name]["value"])


def test_a_policy_by_shopper_is_joined_by_shopper(tmp_path: Path) -> None:
    log = make_log(300)
    log.to_csv(tmp_path / "log.csv", index=False)
    users = log["user_id"].unique()
    by_user = pd.concat(
        [make_policy(PLAYED if number % 2 else LOGGING).assign(user_id=user) for number, user in enumerate(users)]
    )
    by_user.to_csv(tmp_path / "p.csv", index=False)
    read = read_log(tmp_path / "log.csv")
    chances = read_policy(tmp_path / "p.csv", read).chances(read.items)
    odd = log["user_id"].map({user: number % 2 for number, user in enumerate(users)}).to_numpy() == 1
    places, items = log["rank"].to_numpy() - 1, log["item_id"].str[1:].astype(int).to_numpy()
    assert chances == pytest.approx(np.where(odd, PLAYED[places, items], LOGGING[places, items]))


def test_what_the_log_never_showed_is_refused_by_name(files: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    table = np.array([[0.2, 0.2, 0.3, 0.3], [0.1, 0.2, 0.3, 0.4]])
    log = make_log()
    log = log[~((log["item_id"] == "i3") & (log["rank"] == 2))]
    result = run(*files(log, make_policy(table)), tmp_path / "r.json")
    assert not result["estimates"]
    assert result["refused"]["dr"]["field"] == "common support"
    assert "most of all i3" in result["refused"]["dr"]["value"]
    assert result["overlap"]["unseen_share"] == pytest.approx(0.4 * (log["rank"] == 2).mean())
    assert result["logging"]["value"] > 0
    assert (tmp_path / "r.png").exists()


def test_a_log_of_exposures_with_what_came_of_them_is_read_and_a_greedy_one_tells_of_nothing_else(tmp_path: Path) -> None:
    """Each shopper is always shown the same; the policy shows another item half of the time."""
    start, requests = pd.Timestamp("2026-01-01", tz="UTC"), 400
    exposures = pd.DataFrame(
        {
            "request_id": [f"r{number}" for number in range(requests)],
            "user_id": [f"u{number}" for number in range(requests)],
            "surface": "home",
            "time": start + pd.to_timedelta(np.arange(requests), unit="min"),
            "item_id": [f"i{number % 2}" for number in range(requests)],
            "rank": 1,
            "score": 0.5,
            "propensity": 1.0,
            "policy": "greedy",
            "model_version": "1",
            "fallback": False,
        }
    )
    clicks = exposures.iloc[::10][["request_id", "user_id", "item_id", "time"]].assign(type="click")
    settle(exposures, clicks, timedelta(hours=1), start + timedelta(days=2)).to_parquet(tmp_path / "log.parquet")
    pd.DataFrame({"item_id": ["i0", "i1"], "probability": 0.5}).to_csv(tmp_path / "p.csv", index=False)
    result = run(tmp_path / "log.parquet", tmp_path / "p.csv", tmp_path / "r.json")
    assert result["logging"]["value"] == pytest.approx(0.1)
    assert not result["estimates"]
    assert result["refused"]["dr"] | {"action": ""} == {
        "field": "mean weight",
        "problem": "weights are not 1 on average",
        "value": 0.5,
        "action": "",
    }


def test_a_policy_that_is_far_away_is_refused_and_the_command_says_so(
    files: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    log, policy = files(make_log(60), make_policy(np.array([[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]])))
    words = ["evaluate-policy", "--log", str(log), "--policy", str(policy), "--out", str(tmp_path / "r.json")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert "effective shoppers: the policy is too far from what was logged" in result.output
    assert json.loads((tmp_path / "r.json").read_text())["refused"]["ipw"]["field"] == "effective shoppers"


def test_the_command_shows_and_writes(files: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    log, policy = files(make_log(900).drop(columns="request_id"), make_policy())
    words = ["evaluate-policy", "--log", str(log), "--policy", str(policy), "--out", str(tmp_path / "r.json")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "what was logged" in result.output
    assert "Refused: sips, snsips, iips, sniips, rips, snrips, cascade_dr. request_id: slates are not known" in result.output


def test_slates_that_lack_a_place_are_no_slates(tmp_path: Path) -> None:
    log = make_log(150)
    log.iloc[1:].to_csv(tmp_path / "log.csv", index=False)
    with pytest.raises(EstimateRefused, match="slates differ in length or lack a place"):
        slates_of(read_log(tmp_path / "log.csv"))


def spoil(column: str, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.astype({column: object})
        frame.loc[2, column] = value
        return frame

    return change


def same(frame: pd.DataFrame) -> pd.DataFrame:
    return frame


BAD = [
    (spoil("propensity", 0), same, r"propensity: must be above 0 and at most 1; got .1 of 300, first in row 3: "),
    (spoil("propensity", 1.5), same, r"propensity: must be above 0 and at most 1; got .*1\.5"),
    (spoil("propensity", None), same, r"propensity: must be above 0 and at most 1; got .*empty"),
    (spoil("click", "yes"), same, r"click: must be a number; got .*yes"),
    (spoil("rank", 1.5), same, r"rank: must be whole; got .*1\.5"),
    (spoil("item_id", ""), same, r"item_id: ids are null or empty"),
    (lambda log: log.drop(columns="propensity"), same, r"propensity: the column is missing.*Name a column propensity"),
    (lambda log: log.drop(columns="click"), same, r"reward: has no column reward or click.*--reward"),
    (lambda log: log.assign(rank=1), same, r"request_id: a place of a request is filled twice"),
    (same, spoil("probability", 0.5), r"probability: probabilities do not sum to one; got '1\.2 at place 1; 1 of 2 sums'"),
    (same, spoil("probability", -0.1), r"probability: must be within 0 and 1; got .*-0\.1"),
    (same, lambda policy: pd.concat([policy, policy.iloc[:1]]), r"item: items are listed twice"),
    (same, lambda policy: policy[policy["rank"] == 1], r"says nothing of rows of the log; got 'place 2; 150 of 300 rows'"),
    (same, lambda policy: policy.drop(columns="probability"), r"probability: the column is missing"),
    (same, lambda policy: policy.assign(context="a"), r"is by context, of which the log tells nothing"),
    (same, lambda policy: policy.assign(user_id="u0"), r"says nothing of rows of the log; got \"user 'u1', place 1"),
    (same, lambda policy: policy.assign(user_id="u0", request_id="r0"), r"has several keys"),
]


@pytest.mark.parametrize(("log_change", "policy_change", "message"), BAD)
def test_bad_files_are_refused_and_nothing_is_written(
    files: Callable[..., tuple[Path, Path]],
    tmp_path: Path,
    log_change: Callable[[pd.DataFrame], pd.DataFrame],
    policy_change: Callable[[pd.DataFrame], pd.DataFrame],
    message: str,
) -> None:
    log, policy = files(log_change(make_log(150)), policy_change(make_policy()))
    with pytest.raises(InputError, match=message) as refused:
        run(log, policy, tmp_path / "out" / "r.json")
    assert refused.value.action
    assert not list((tmp_path / "out").iterdir())


def test_a_place_that_cannot_hold_the_result_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"out: is no \.json file"):
        run(tmp_path / "missing.csv", tmp_path / "missing.csv", tmp_path / "r.txt")
