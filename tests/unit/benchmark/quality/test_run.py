"""The whole command on small shops: what it writes, that it repeats itself, resumes, and survives odd shops."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.fixtures.benchmark_files import group_shop, write
from typer.testing import CliRunner

from endcap.benchmark.partial import PartialResults
from endcap.benchmark.quality import fits
from endcap.benchmark.quality import run as quality
from endcap.benchmark.quality.run import Request, run_quality
from endcap.benchmark.quality.summary import table_rows
from endcap.cli import app
from endcap.config import Params
from endcap.errors import InputError
from endcap.evaluation.baselines import BASELINES
from endcap.training.options import FitOptions

TINY = FitOptions(dim=8, heads=2, max_length=8, max_epochs=2, batch_size=8, precision="fp32")
ALL = {*BASELINES, "EASE", "ALS", "TIFU-kNN", "Endcap"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return group_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def result(shop: Path, params: Params) -> dict[str, Any]:
    return run_quality(Request(shop, None, "leave-one-out", seeds=2, out=shop.parent / "R.json"), params, TINY)


def figures(result: dict[str, Any]) -> dict[str, Any]:
    return {name: model["seeds"] for name, model in result["models"].items()}


def test_every_model_is_in_the_file_and_the_picture_lies_beside(shop: Path, result: dict[str, Any]) -> None:
    written = json.loads((shop.parent / "R.json").read_text())
    assert set(written["models"]) == ALL
    assert (shop.parent / "R.png").stat().st_size > 5_000
    assert not (shop.parent / "R.partial").exists()
    assert written["data"] | {"files": 0, "notes": 0} == result["data"] | {"files": 0, "notes": 0}
    assert (written["data"]["users"], written["data"]["items"], written["data"]["interactions"]) == (24, 16, 144)
    assert written["data"]["files"]["interactions"]["name"] == "interactions.parquet"
    assert str(shop.parent) not in (shop.parent / "R.json").read_text()  # no paths of this machine
    assert {"versions", "commit", "machine", "date", "seconds"} <= set(written)


def test_our_seeds_are_told_one_by_one_with_their_spread(result: dict[str, Any]) -> None:
    ours = result["models"]["Endcap"]
    assert list(ours["seeds"]) == ["42", "43"]
    each = [seed["ndcg@10"] for seed in ours["seeds"].values()]
    assert ours["spread"]["ndcg@10"]["each"] == each
    assert ours["mean"]["ndcg@10"] == pytest.approx(np.mean(each))
    interval = ours["intervals"]["ndcg@10"]
    assert interval["low"] <= interval["mean"] <= interval["high"]
    assert interval["count"] == 24
    assert {"train_seconds", "sequences_per_second", "train_peak_mib", "epochs", "hyper_parameters"} <= set(
        ours["training"]["42"]
    )
    assert ours["by_history_length"]["5-9"]["recall@10"]["count"] == 24


def test_the_lead_is_paired(result: dict[str, Any]) -> None:
    for name, model in result["models"].items():
        if name == "Endcap":
            assert "endcap_minus_this" not in model
            continue
        ours = result["models"]["Endcap"]["mean"]["recall@5"]
        assert model["endcap_minus_this"]["recall@5"]["mean"] == pytest.approx(ours - model["mean"]["recall@5"])
    header, *rows = table_rows(result["models"])
    assert {len(row) for row in rows} == {len(header)}
    assert {row[0] for row in rows} == ALL


def test_item_knn_finds_the_group(result: dict[str, Any]) -> None:
    """Each user walks through her own group: what she lacks of its eight items is three, so a slate of five holds them."""
    assert result["models"]["item-kNN"]["mean"]["recall@5"] == 1
    assert result["models"]["popularity"]["mean"]["recall@5"] < 1


def test_a_killed_run_goes_on_where_it_was(
    shop: Path, params: Params, tmp_path: Path, result: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Baselines come from the killed run and the model from the next: with the figures of a whole run, as seeds promise."""
    request = Request(shop, None, "leave-one-out", seeds=2, out=tmp_path / "R.json")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fits, "fit_ours", killed)
        with pytest.raises(KeyboardInterrupt):
            run_quality(request, params, TINY)
    assert not (tmp_path / "R.json").exists()
    lines: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr(fits, "choose", killed)  # no baseline is fitted again
        resumed = run_quality(request, params, TINY, progress=lines.append)
    assert figures(resumed) == figures(result)
    assert "EASE, seed 42: kept from the run before" in lines


def test_finished_parts_of_other_inputs_or_torn_ones_are_not_taken(tmp_path: Path) -> None:
    slates = np.array([[1, 2]])
    one = PartialResults(tmp_path / "R.json", {"file": "one"})
    one.save("TIFU-kNN", 1, slates, {"k": 3})
    kept = one.load("TIFU-kNN", 1)
    assert kept is not None
    assert (kept[0].tolist(), kept[1]) == ([[1, 2]], {"k": 3})
    assert PartialResults(tmp_path / "R.json", {"file": "two"}).load("TIFU-kNN", 1) is None
    assert one.load("TIFU-kNN", 2) is None
    (path,) = (tmp_path / "R.partial").iterdir()
    path.write_bytes(path.read_bytes()[:60])
    assert one.load("TIFU-kNN", 1) is None


def test_finished_parts_are_of_these_very_files_whatever_their_names(tmp_path: Path, params: Params) -> None:
    """Interactions and items of one name must not hide each other."""
    identities = []
    for number in (1, 2):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / "items").mkdir(exist_ok=True)
        shop = group_shop(tmp_path / f"{number}", length=5 + number).rename(tmp_path / f"{number}" / "data.parquet")
        items = write(tmp_path / "items" / "data.parquet", item=[f"i{group}{place}" for group in (0, 1) for place in range(8)])
        request = Request(shop, items, "leave-one-out")
        events = quality.read_events(shop)
        table = quality.read_items(items, events.items)
        facts = quality.describe(request, events, table, quality.make_split(request, events, table, params))
        identities.append(facts["data"]["files"])
    assert identities[0]["items"] == identities[1]["items"]
    assert identities[0]["interactions"]["sha256"] != identities[1]["interactions"]["sha256"]


def test_by_time_judges_newcomers_and_new_items_by_their_text(tmp_path: Path, params: Params) -> None:
    """The new item's text is that of the item which its buyers had before; the newcomer has nothing."""
    rows = [(f"u{user}", f"i{(user + step) % 6}", 15_000 + 3 * step + user) for user in range(6) for step in range(4)]
    rows += [("u0", "new mug", 15_030), ("newcomer", "i1", 15_031), ("u1", "i5", 15_032)]
    users, items, days = zip(*rows, strict=True)
    path = write(tmp_path / "f.csv", user=users, item=items, timestamp=days)
    names = [*(f"i{number}" for number in range(6)), "new mug"]
    titles = ["red mug", "red mug", "red mug", "red mug", "wool sock", "tin soldier", "red mug"]
    catalogue = write(tmp_path / "items.csv", item=names, title=titles)
    result = run_quality(Request(path, catalogue, "time", split_at="15030", seeds=1), params, TINY)
    assert set(result["models"]) == ALL | {"content-kNN"}
    assert result["data"]["text_columns"] == ["title"]
    assert (result["data"]["cold_items"], result["data"]["cold_wanted"]) == (1, 1)
    assert result["protocol"]["split_at"] == "2011-02-25T00:00:00+00:00"
    assert result["models"]["content-kNN"]["mean"]["cold.recall@5"] == 1
    assert result["models"]["popularity"]["intervals"]["recall@10"]["count"] == 3
    assert result["models"]["popularity"]["by_history_length"]["0"]["recall@10"]["count"] == 1


def test_the_cut_is_in_the_unit_of_the_file(tmp_path: Path, params: Params) -> None:
    """15,010 seconds are no 15,010 days, though they look like it."""
    times = [15_000 + 2 * step for step in range(10)]
    path = write(tmp_path / "f.csv", user=["u", "v"] * 5, item=list("abcdefghij"), timestamp=[*times[:9], 200_000])
    request = Request(path, None, "time", split_at="15010")
    events = quality.read_events(path)
    split = quality.make_split(request, events, quality.read_items(None, events.items), params)
    assert split.test_start.isoformat() == "1970-01-01T04:10:10+00:00"
    for wrong, told in (("soon", "is no moment"), ("2030-01-01", "one side of the split is empty")):
        with pytest.raises(InputError, match=told):
            quality.make_split(replace(request, split_at=wrong), events, quality.read_items(None, events.items), params)
    untimed = quality.read_events(write(tmp_path / "g.csv", user=["u"], item=["a"]))
    with pytest.raises(InputError, match="needs times"):
        quality.make_split(request, untimed, quality.read_items(None, untimed.items), params)


def test_rows_given_twice_are_told_where_they_hide_the_test(tmp_path: Path, params: Params) -> None:
    rows = [("u", "a", 1), ("u", "b", 2), ("u", "c", 3), ("u", "c", 3), ("v", "a", 1), ("v", "b", 2), ("v", "c", 3)]
    users, items, days = zip(*rows, strict=True)
    path = write(tmp_path / "f.csv", user=users, item=items, timestamp=[15_000 + day for day in days])
    request = Request(path, None, "leave-one-out")
    events = quality.read_events(path)
    table = quality.read_items(None, events.items)
    split = quality.make_split(request, events, table, params)
    (note,) = quality.masked_notes(request, split)
    assert note.startswith("1 of 2 test users want only items that stand in their own history")
    assert "no recall, NDCG or MRR can be above 0.500" in note
    assert "drop the copies" in note
    assert "--no-mask-seen" in note
    assert quality.describe(request, events, table, split)["data"]["notes"] == [note]
    assert quality.masked_notes(replace(request, mask_seen=False), split) == []


ODD: dict[str, dict[str, Any]] = {
    "one event": {"user": ["u"], "item": ["i"], "timestamp": [15_000]},
    "one user": {"user": ["u"] * 5, "item": list("abcde"), "timestamp": [15_000, 15_010, 15_020, 15_030, 15_040]},
    "one item": {"user": list("uuuuvvvv"), "item": ["i"] * 8, "timestamp": [15_000, 15_010, 15_020, 15_030] * 2},
    "one moment": {"user": list("uuuuvvvv"), "item": list("abcdabcd"), "timestamp": [15_000] * 8},
}


@pytest.mark.parametrize("protocol", ["leave-one-out", "time"])
@pytest.mark.parametrize("name", ODD)
def test_an_odd_shop_runs_or_is_told_why(tmp_path: Path, params: Params, name: str, protocol: str) -> None:
    path = write(tmp_path / "f.parquet", **ODD[name])
    request = Request(path, None, protocol, seeds=1)
    if name == "one event" or (name == "one moment" and protocol == "time"):
        with pytest.raises(InputError):
            run_quality(request, params, TINY)
        return
    assert set(run_quality(request, params, TINY)["models"]) == ALL


def test_nothing_to_fit_is_refused(shop: Path, params: Params) -> None:
    with pytest.raises(InputError, match="nothing to fit"):
        run_quality(Request(shop, None, "leave-one-out", seeds=0, baselines=False), params, TINY)


def test_the_command_prints_a_table_and_writes(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENDCAP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(quality, "fit_all", _only_popularity)
    command = ["benchmark", "quality", "--interactions", str(shop), "--out", str(tmp_path / "R.json"), "--max-users", "7"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "NDCG@10" in done.output
    assert json.loads((tmp_path / "R.json").read_text())["protocol"]["judged_users"] == 7


def _only_popularity(split: Any, text: Any, options: Any, plan: Any, finished: Any, progress: Any) -> list[fits.Run]:
    baseline = fits.all_baselines(28, None)["popularity"]
    scorer, facts = fits.fit_baseline(baseline, split, plan, progress)
    return [fits.Run(fits.NAME, 1, fits.rank(scorer, split.test, split.item_ids), facts)]
