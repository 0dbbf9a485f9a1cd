"""The whole exam on a real tiny model: a sound one passes, and for each thing that can be wrong it is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file
from tests.fixtures import tiny_model
from tests.fixtures.release_exam import write_dataset

from endcap.config import Params
from endcap.data.partitions import read_events
from endcap.pipeline import stages
from endcap.release.gates import Exam, holdout_start, judge
from endcap.release.honesty import dataset_validated, enough_shoppers, holdout_unseen
from endcap.release.package import MODEL_PATH
from endcap.release.scorecard import Scorecard
from endcap.sections import Gates

START = datetime(2011, 11, 7, tzinfo=UTC)


@pytest.fixture(scope="module")
def gates(params: Params) -> Gates:
    """The project's thresholds, but a margin for forty shoppers and a latency for a machine that runs the tests."""
    return params.gates.model_copy(update={"margin_vs_baselines": 0.05, "margin_vs_champion": 0.05, "max_latency_ms": 2000.0})


@pytest.fixture(scope="module")
def sound(exam: Exam, gates: Gates, params: Params) -> Scorecard:
    return judge(exam, gates, params.evaluate)


def copy(exam: Exam, tmp_path: Path) -> Exam:
    return replace(exam, package=Path(shutil.copytree(exam.package, tmp_path / "package")))


def test_a_sound_first_model_passes_every_gate(sound: Scorecard) -> None:
    assert sound.failed == []
    assert sound.passed
    assert {gate.group for gate in sound.gates} == {"Quality", "Slices", "Behaviour", "Budgets", "Servability", "Data"}
    assert sound.details["shoppers"] == 40
    assert set(sound.metrics) == {"candidate", "popularity", "recent popularity", "item-kNN", "own purchase counts"}


def test_a_spoiled_candidate_is_refused_by_the_champion(exam: Exam, gates: Gates, params: Params, tmp_path: Path) -> None:
    spoiled = copy(exam, tmp_path)
    path = spoiled.package / MODEL_PATH / "config.json"
    config = json.loads(path.read_text())
    config["blend_weights"] = {
        signal: {name: -value for name, value in weights.items()} for signal, weights in config["blend_weights"].items()
    }
    path.write_text(json.dumps(config))

    scorecard = judge(replace(spoiled, champion=exam.package / MODEL_PATH), gates, params.evaluate)

    assert not scorecard.passed
    assert {"NDCG@10 against the champion", "Recall@10 against the champion", "light shoppers"} <= set(scorecard.failed)


def test_a_model_that_cannot_be_read_is_refused_twice(exam: Exam, gates: Gates, params: Params, tmp_path: Path) -> None:
    broken = copy(exam, tmp_path)
    (broken.package / MODEL_PATH / "sequence.safetensors").write_bytes(b"torn")

    failed = judge(broken, gates, params.evaluate).failed

    assert failed == ["the model loads", "loads and answers in a clean process"]


def test_every_defect_at_once_is_named_and_none_hides_another(exam: Exam, gates: Gates, params: Params, tmp_path: Path) -> None:
    bad = copy(exam, tmp_path)
    counts, config = (bad.package / MODEL_PATH / name for name in ("counts.safetensors", "config.json"))
    arrays = load_file(counts)
    arrays["recent"][:1] = np.nan
    save_file(arrays, counts)
    config.write_text(json.dumps({**json.loads(config.read_text()), "trained_until": "2011-11-10T00:00:00+00:00"}))
    dataset = write_dataset(tmp_path / "dataset", validated=False)
    catalog = pq.read_table(dataset / "catalog.parquet")
    pq.write_table(catalog.slice(2), dataset / "catalog.parquet")
    tight = gates.model_copy(update={"max_size_mb": 0.001, "max_latency_ms": 0.001, "slice_min_users": 41, "min_coverage": 1.0})

    failed = judge(replace(bad, dataset=dataset, learnt_from={"version": "dataset-1"}), tight, params.evaluate).failed

    assert {
        "scores are finite",
        "holdout unseen in training",
        "dataset validated",
        "judged dataset validated",
        "recommended items exist",
        "enough shoppers",
        "size",
        "latency",
    } <= set(failed)


def test_the_dataset_must_be_validated_and_the_one_that_the_model_names() -> None:
    card = {"version": "dataset-1", "validation": {"passed": True}}

    assert dataset_validated(card, "dataset-1").result.passed
    assert not dataset_validated(card, "dataset-9").result.passed
    assert not dataset_validated({**card, "validation": {"passed": False}}, "dataset-1").result.passed
    assert not dataset_validated({"version": "dataset-1"}, "dataset-1").result.passed


def test_a_model_that_saw_the_holdout_proves_nothing() -> None:
    assert holdout_unseen({"trained_until": "2011-11-07T00:00:00+00:00"}, START).result.passed
    assert not holdout_unseen({"trained_until": "2011-11-07T00:00:01+00:00"}, START).result.passed
    assert not holdout_unseen({}, START).result.passed


def test_an_empty_holdout_passes_nobody(exam: Exam, gates: Gates, params: Params, tmp_path: Path) -> None:
    quiet = write_dataset(tmp_path / "dataset")
    card = json.loads((quiet / "dataset.json").read_text())
    (quiet / "dataset.json").write_text(json.dumps({**card, "interval_end": "2012-02-01T00:00:00+00:00"}))

    failed = judge(replace(exam, dataset=quiet), gates, params.evaluate).failed

    assert "enough shoppers" in failed
    assert "NDCG@10 against own purchase counts" in failed


def test_enough_shoppers_says_where_it_looked() -> None:
    assert enough_shoppers(30, 30, START, START + timedelta(days=2)).result.passed

    few = enough_shoppers(29, 30, START, START + timedelta(days=2))
    assert not few.result.passed
    assert few.result.observed == "29 bought in the holdout of 2 days (2011-11-07 00:00 to 2011-11-09 00:00)"
    assert "prepare.holdout_days" in few.why


def test_a_candidate_of_an_older_dataset_is_judged_on_the_newest_one(
    exam: Exam, gates: Gates, params: Params, tmp_path: Path
) -> None:
    newest = write_dataset(tmp_path / "newest", version="dataset-2")

    scorecard = judge(replace(exam, dataset=newest), gates, params.evaluate)

    assert scorecard.failed == []
    assert scorecard.details["dataset"]["version"] == "dataset-2"


@pytest.mark.parametrize("days", [8, 27, 40])
def test_gates_and_training_cut_a_history_at_the_same_moment(days: int, params: Params, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data" / "dataset")
    card = json.loads((dataset / "dataset.json").read_text())
    end = tiny_model.START + timedelta(days=days)
    (dataset / "dataset.json").write_text(json.dumps({**card, "interval_end": end.isoformat()}))
    stages.prepare(tmp_path, params)
    split = json.loads((tmp_path / "work" / "prepared" / "split.json").read_text())

    found = holdout_start(read_events(dataset).to_pandas(), end, params.prepare.holdout_days)

    assert found.isoformat() == split["holdout_start"]
    assert holdout_unseen({"trained_until": split["holdout_start"]}, found).result.passed


@pytest.mark.parametrize(
    ("until", "start", "passed"),
    [("2011-11-05", "2011-11-07", True), ("2011-11-09", "2011-11-09", True), ("2011-11-14", "2011-11-14", False)],
)
def test_nothing_that_the_champion_has_seen_is_compared(
    exam: Exam, gates: Gates, params: Params, tmp_path: Path, until: str, start: str, passed: bool
) -> None:
    champion = Path(shutil.copytree(exam.package / MODEL_PATH, tmp_path / "champion"))
    config = champion / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "trained_until": f"{until}T00:00:00+00:00"}))

    scorecard = judge(replace(exam, champion=champion), gates, params.evaluate)

    assert str(scorecard.details["holdout_start"])[:10] == start
    unseen = next(gate.result for gate in scorecard.gates if gate.result.name == "holdout unseen by the champion")
    assert (unseen.passed, unseen.blocking) == (passed, True)
    assert ("nothing is left to compare on" in unseen.observed) is not passed
