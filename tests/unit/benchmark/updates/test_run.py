"""The whole command on a small shop: what it writes, that it repeats itself and resumes, and what the figures mean."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests.fixtures.benchmark_files import group_shop, write
from typer.testing import CliRunner

from endcap.benchmark.updates import strategies
from endcap.benchmark.updates.figures import table_rows
from endcap.benchmark.updates.judging import POPULAR_METRIC
from endcap.benchmark.updates.models import SECONDS
from endcap.benchmark.updates.run import Request, run_updates
from endcap.benchmark.updates.strategies import FROZEN, FULL, INCREMENTAL, NAIVE, STRATEGIES
from endcap.cli import app
from endcap.config import Params, with_values
from endcap.errors import InputError
from endcap.evaluation.baselines import BASELINES
from endcap.models.blend import BlendedRecommender
from endcap.training.options import FitOptions

TINY = FitOptions(dim=8, heads=2, max_length=8, max_epochs=2, batch_size=8, precision="fp32", validation_days=4)
START = datetime(2011, 2, 3, tzinfo=UTC)  # day 15,008 of a shop that ends on day 15,024
ABROAD = "2011-02-03T00:00:00+05:00"  # a day earlier in UTC


@pytest.fixture(scope="module")
def params(params: Params) -> Params:
    return with_values(params, {"evaluate.bootstrap_samples": 50})


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return group_shop(tmp_path_factory.mktemp("shop"))


def request(shop: Path, **changes: Any) -> Request:
    return Request(**({"interactions": shop, "items": None, "start": START, "weeks": 3} | changes))


@pytest.fixture(scope="module")
def result(shop: Path, params: Params) -> dict[str, Any]:
    return run_updates(request(shop, out=shop.parent / "R.json"), params, TINY, None, shop.parent)


def test_every_model_is_in_the_file_and_the_picture_lies_beside(shop: Path, result: dict[str, Any]) -> None:
    written = json.loads((shop.parent / "R.json").read_text())
    assert set(written["models"]) == {*BASELINES, "EASE", "ALS", "TIFU-kNN", *STRATEGIES}
    assert (shop.parent / "R.png").stat().st_size > 5_000
    assert not (shop.parent / "R.partial").exists()
    assert str(shop.parent) not in (shop.parent / "R.json").read_text()  # no paths of this machine
    assert written["protocol"] == result["protocol"]
    assert {"versions", "commit", "machine", "date", "seconds", "hyper_parameters"} <= set(written)


def test_a_week_without_buyers_has_no_figures_and_keeps_its_place(shop: Path, params: Params, tmp_path: Path) -> None:
    events = pd.read_parquet(shop)
    day = (START - datetime(1970, 1, 1, tzinfo=UTC)).days
    gap = events[(events["timestamp"] < day + 7) | (events["timestamp"] >= day + 14)]
    asked = request(write(tmp_path / "gap.parquet", **gap.to_dict("list")), strategies=(FROZEN,), out=tmp_path / "R.json")
    found = run_updates(asked, params, TINY, None, tmp_path)
    for model in found["models"].values():
        first, none, last = model["by_week"]["recall@20"]
        assert none is None
        assert first is not None
        assert last is not None
    assert (tmp_path / "R.png").stat().st_size > 5_000


def test_all_strategies_begin_with_one_model(result: dict[str, Any]) -> None:
    firsts = [result["models"][name]["by_week"]["ndcg@10"][0] for name in STRATEGIES]
    assert len(set(firsts)) == 1
    assert len({result["models"][name]["seconds"]["cpu_seconds_first"] for name in STRATEGIES}) == 1


def test_means_are_of_weeks_and_leads_are_paired(result: dict[str, Any]) -> None:
    ours = result["models"][INCREMENTAL]
    for name, model in result["models"].items():
        weeks = model["by_week"]["recall@20"]
        assert model["mean"]["recall@20"] == pytest.approx(sum(weeks) / len(weeks))
        assert model["intervals"]["recall@20"]["mean"] == pytest.approx(model["mean"]["recall@20"])
        if name != INCREMENTAL:
            lead = model["ours_minus_this"]["recall@20"]
            assert lead["mean"] == pytest.approx(ours["mean"]["recall@20"] - model["mean"]["recall@20"])
            assert lead["low"] <= lead["mean"] <= lead["high"]


def test_updates_are_held_against_full_retrains_from_the_first_update_on(result: dict[str, Any]) -> None:
    found = result["updates"]
    for name in (FULL, INCREMENTAL):
        later = result["models"][name]["by_week"]["recall@20"][1:]
        assert found["quality"]["recall@20"][name] == pytest.approx(sum(later) / len(later))
        assert found["cost"]["cpu_seconds"][name] == result["models"][name]["seconds"]["cpu_seconds_an_update"] > 0
    assert found["cost"]["cpu_seconds"]["ratio"] == pytest.approx(
        found["cost"]["cpu_seconds"][INCREMENTAL] / found["cost"]["cpu_seconds"][FULL]
    )
    assert result["models"][FROZEN]["seconds"]["cpu_seconds_an_update"] == 0


def test_forgetting_is_of_the_last_week(result: dict[str, Any]) -> None:
    forgot = result["forgetting"]
    assert forgot["updates"] == 2
    for name, one in forgot["models"].items():
        assert one["mean"] == pytest.approx(result["models"][name]["by_week"][POPULAR_METRIC][-1])


def test_the_table_is_best_first(result: dict[str, Any]) -> None:
    header, *rows = table_rows(result)
    by_name = {row[0]: row for row in rows}
    assert len(rows) == len(result["models"])
    assert [row[header.index("Recall@20")] for row in rows] == sorted((row[3] for row in rows), reverse=True)
    assert by_name[INCREMENTAL][header.index("ours − this, Recall@20")] == ""


def test_a_killed_run_goes_on_with_the_same_figures(
    shop: Path, params: Params, result: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(shop, baselines=False, strategies=(INCREMENTAL, NAIVE), out=shop.parent / "killed.json")
    begun: list[datetime] = []
    fit = strategies.fit_update

    def killed(*args: Any, **options: Any) -> Any:
        begun.append(args[5])
        if len(begun) == 4:  # the naive update of the last week
            raise KeyboardInterrupt
        return fit(*args, **options)

    monkeypatch.setattr(strategies, "fit_update", killed)
    with pytest.raises(KeyboardInterrupt):
        run_updates(asked, params, TINY, None, shop.parent)
    assert not (shop.parent / "killed.json").exists()
    again = run_updates(asked, params, TINY, None, shop.parent)
    assert len(begun) == 5  # only the lost one was made again, from the kept parent
    for name in (INCREMENTAL, NAIVE):
        assert again["models"][name]["seeds"] == result["models"][name]["seeds"]
        assert again["models"][name]["by_week"] == result["models"][name]["by_week"]
    assert "updates" not in again  # nothing to be held against


def test_naive_tuning_neither_replays_nor_holds(shop: Path, params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[float, float | None] = {}
    fit = strategies.fit_update

    def spy(parent: BlendedRecommender, *args: Any, **options: Any) -> Any:
        seen[args[5].replay_ratio] = options.get("hold")
        assert SECONDS in parent.config
        return fit(parent, *args, **options)

    monkeypatch.setattr(strategies, "fit_update", spy)
    asked = request(shop, baselines=False, weeks=2, strategies=(INCREMENTAL, NAIVE))
    run_updates(asked, params, TINY, None, shop.parent)
    assert seen == {TINY.replay_ratio: None, 0.0: 0.0}


@pytest.mark.parametrize(
    "wrong",
    [{"strategies": ("fulll",)}, {"weeks": 0}, {"strategies": (), "baselines": False}, {"seeds": 0, "baselines": False}],
)
def test_what_makes_no_sense_is_named(shop: Path, params: Params, wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        run_updates(request(shop, **wrong), params, TINY, None, shop.parent)


@pytest.mark.usefixtures("home")
def test_the_command_prints_a_table_and_wants_one_shop(shop: Path) -> None:
    day = ["--start", "2011-02-03", "--weeks", "2", "--seeds", "0"]
    told = CliRunner().invoke(app, ["benchmark", "updates", "--interactions", str(shop), *day])
    assert told.exit_code == 0, told.output
    assert "own purchase counts" in told.output
    elsewhere = CliRunner().invoke(app, ["benchmark", "updates", "--interactions", str(shop), *day, "--start", ABROAD])
    assert "from 2011-02-02" in elsewhere.output, elsewhere.output
    neither = CliRunner().invoke(app, ["benchmark", "updates", *day])
    assert isinstance(neither.exception, InputError)
    badly = CliRunner().invoke(app, ["benchmark", "updates", "--shop", "online-retail", "--start", "monday"])
    assert isinstance(badly.exception, InputError)
