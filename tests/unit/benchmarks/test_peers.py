"""The comparison with peers: the split and the judge by hand, and contestants that are small programs rather than RecTools."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.peers import contestants, quality, report, throughput
from benchmarks.peers.__main__ import parse, split_of
from benchmarks.peers.exchange import Cases, Histories, Job, Material, best_unseen, judge_slates, read_material, read_test
from benchmarks.peers.splits import leave_one_out, make_shop, prepare, read_interactions
from benchmarks.peers.watching import Watch
from endcap.errors import InputError

FAKE = """
import json, sys
from pathlib import Path
import numpy as np
job = json.loads(Path(sys.argv[1]).read_text())
out = Path(job["out"])
with (out.parent / "runs.txt").open("a") as runs:
    runs.write(job["model"] + "\\n")
if job["model"] == "broken":
    sys.exit("out of luck")
users = len(np.load(Path(job["split"]) / "test.npz")["starts"]) - 1
np.save(out / "slates.npy", np.full((users, 20), -1))
facts = {"train_seconds": 1.0, "seconds_to_best": 1.0, "mark_seconds": 300.0, "validation": 0.1, "versions": {}}
(out / "facts.json").write_text(json.dumps(facts))
"""


def histories(*users: list[int]) -> Histories:
    return Histories(np.cumsum([0, *map(len, users)]), np.array([item for user in users for item in user], np.int64))


@pytest.fixture
def fake(tmp_path: Path) -> list[str]:
    (tmp_path / "fake.py").write_text(FAKE, encoding="utf-8")
    return [sys.executable, str(tmp_path / "fake.py")]


@pytest.fixture
def split(tmp_path: Path) -> dict[str, Any]:
    return prepare(make_shop(12, 9), "made up", tmp_path)


def test_leave_one_out_by_hand(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user": [1, 1, 2, 1, 1, 2], "item": [10, 30, 10, 20, 40, 30], "position": [0, 3, 0, 1, 2, 1]})
    frame.to_parquet(tmp_path / "f.parquet")
    items, train, validation, test = leave_one_out(read_interactions(tmp_path / "f.parquet"))
    assert items == 4
    assert [train.of(0).tolist(), train.of(1).tolist()] == [[0, 1], [0, 2]]  # two events of the second: only learnt
    assert (validation.histories.of(0).tolist(), validation.wanted.tolist()) == ([0, 1], [3])
    assert (test.histories.of(0).tolist(), test.wanted.tolist()) == ([0, 1, 3], [2])


def test_contestants_are_not_given_the_answers(split: dict[str, Any]) -> None:
    material, test = read_material(Path(split["folder"])), read_test(Path(split["folder"]))
    assert isinstance(material.test, Histories)
    np.testing.assert_array_equal(material.test.items, test.histories.items)
    for user in range(len(test.wanted)):
        whole = [*material.train.of(user), material.validation.wanted[user], test.wanted[user]]
        assert [*test.histories.of(user), test.wanted[user]] == whole


def test_the_judge_by_hand() -> None:
    cases = Cases(histories([0], [1], [2]), np.array([5, 6, 7]))
    slates = np.full((3, 20), -1)
    slates[0, :3], slates[1, :6], slates[2, :2] = [5, 1, 2], [0, 2, 3, 4, 5, 6], [0, 1]
    values = judge_slates(slates, cases)
    assert values["ndcg@10"] == pytest.approx([1.0, 1 / np.log2(7), 0.0])
    assert values["recall@5"].tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(("slate", "said"), [([3, 3], "twice"), ([0, 3], "had")])
def test_the_judge_refuses_what_may_not_be_shown(slate: list[int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        judge_slates(np.array([slate]), Cases(histories([0]), np.array([5])))
    with pytest.raises(InputError, match="not one slate a user"):
        judge_slates(np.array([slate, slate]), Cases(histories([0]), np.array([5])))


def test_ranking_leaves_out_what_was_had_and_what_has_no_score() -> None:
    scores = np.array([[1.0, 2.0, -np.inf, 2.0, 0.5]], np.float32)
    assert best_unseen(scores, histories([0])).tolist() == [[1, 3, 4, -1, -1]]


def test_a_result_is_kept_until_its_job_changes(split: dict[str, Any], fake: list[str], tmp_path: Path) -> None:
    job = Job("popularity", "quality", split["folder"], "")
    first = contestants.run(job, tmp_path, split["digest"], fake)
    assert contestants.run(job, tmp_path, split["digest"], fake) == first
    contestants.run(job, tmp_path, "another split", fake)
    assert (tmp_path / "runs.txt").read_text().splitlines() == ["popularity"] * 2


def test_a_contestant_that_fails_says_why(split: dict[str, Any], fake: list[str], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(contestants.MODULES, "broken", "implicit_models")
    with pytest.raises(
        contestants.ContestantFailed, match=r"broken-quality-s1: ended with code 1.*out of luck.*Read .*log.txt"
    ):
        contestants.run(Job("broken", "quality", split["folder"], ""), tmp_path, split["digest"], fake)


def test_the_watch_stops_by_patience_and_goes_back_to_the_best(tmp_path: Path) -> None:
    wanted = Cases(histories([0], [1]), np.array([2, 3]))
    material = Material(4, histories([0], [1]), wanted, wanted.histories)
    good, bad = np.array([[2, 3], [3, 2]]), np.array([[3, 2], [2, 3]])
    weights = {"now": bad}
    job = Job("made-up", "quality", "", str(tmp_path), patience=2, max_seconds=1e9, mark_seconds=0.0)
    watch = Watch(job, material, lambda _: weights["now"], lambda: dict(weights), weights.update)
    stops = []
    for slates in (bad, good, bad, bad):
        weights["now"] = slates
        watch.begin()
        stops.append(watch.end(10, 20))
    facts = watch.finish()
    assert stops == [False, False, False, True]
    assert (facts["best_epoch"], facts["stopped_by"]) == (2, "patience")
    assert np.load(tmp_path / "slates.npy").tolist() == good.tolist()
    assert not (tmp_path / "slates_at_mark.npy").exists()  # no epoch had ended by then
    assert facts["mark_epoch"] == 0


def test_past_the_mark_the_weights_of_the_moment_are_ranked_once(tmp_path: Path) -> None:
    wanted = Cases(histories([0]), np.array([2]))
    weights = {"now": np.array([[2, 1]])}
    job = Job("made-up", "quality", "", str(tmp_path), mark_seconds=0.0)
    watch = Watch(job, Material(3, histories([0]), wanted, wanted.histories), lambda _: weights["now"], dict, weights.update)
    watch.begin()
    assert watch.tick()
    weights["now"] = np.array([[1, 2]])
    assert not watch.tick()
    assert np.load(tmp_path / "slates_at_mark.npy").tolist() == [[2, 1]]


def test_at_the_mark_the_best_weights_win_over_worse_ones_of_the_moment(tmp_path: Path) -> None:
    wanted = Cases(histories([0]), np.array([2]))
    weights = {"now": np.array([[2, 1]])}
    job = Job("made-up", "quality", "", str(tmp_path))
    watch = Watch(
        job,
        Material(3, histories([0]), wanted, wanted.histories),
        lambda _: weights["now"],
        lambda: dict(weights),
        weights.update,
    )
    watch.begin()
    watch.end(1, 1)
    weights["now"] = np.array([[1, 2]])
    assert not watch.tick()
    watch.job = replace(job, mark_seconds=0.0)
    assert watch.tick()
    assert np.load(tmp_path / "slates_at_mark.npy").tolist() == [[2, 1]]
    assert weights["now"].tolist() == [[1, 2]]  # training goes on with what it had


def test_throughput_takes_turns_and_ratios_are_against_the_peers_best() -> None:
    ran: list[tuple[str, str, int]] = []

    def run(job: Job, folder: Path, digest: str, label: str = "") -> dict[str, Any]:
        held = job.settings == {"heap": "held"} and job.threads == 2
        ran.append((job.model, label, job.seed))
        speed, memory = (600.0, 90.0) if job.model == "endcap" else (100.0, 200.0) if held else (60.0, 100.0)
        return {
            "sequences_per_second": speed, "targets_per_second": 5 * speed, "peak_above_baseline_mib": memory, "peak_mib": 0.0,
            "versions": {},
        }  # fmt: skip

    found = throughput.measure(Job("", "", "", ""), Path(), "d", [64], 2, 1, run)
    assert found["fastest"] == "heap held"
    turns = [(model, seed) for model, label, seed in ran if label == "d64"]
    peer = throughput.PEER
    assert turns == [(peer, 1), (peer, 1), ("endcap", 1), (peer, 2), (peer, 2), ("endcap", 2)]
    ratios = found["widths"]["64"]["ratios_to_the_best_peer"]
    assert ratios["sequences_per_second"]["median"] == pytest.approx(6.0)
    assert ratios["peak_memory"]["median"] == pytest.approx(0.9)


def test_the_page_tells_of_everybody(split: dict[str, Any], fake: list[str], tmp_path: Path) -> None:
    def run(job: Job, folder: Path, digest: str) -> dict[str, Any]:
        return contestants.run(job, folder, digest, fake)

    base = Job("", "", split["folder"], "")
    found = quality.measure(base, tmp_path, split["digest"], ["popularity", "endcap"], 1, {}, run)
    results = {
        "split": split, "machine": {"cpu": "c", "threads": 2, "load_1m": 0.0}, "measured_at": "2026-11-01", "commit": "0" * 40,
        "mark_seconds": 300.0, "quality": found,
    }  # fmt: skip
    paths = report.write(results, tmp_path / "peers")
    assert [path.suffix for path in paths if path.stat().st_size] == [".json", ".md", ".png"]
    page = paths[1].read_text(encoding="utf-8")
    assert "| popularity | .0000 |" in page
    assert "Endcap less popularity, NDCG@10: +0.0000" in page
    assert json.loads(paths[0].read_text(encoding="utf-8"))["quality"]["models"]["endcap"]["mean"]["at_mark"] == 0.0


def test_missing_data_and_bad_files_are_named(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("ENDCAP_DATA_DIR", raising=False)
    with pytest.raises(InputError, match="ENDCAP_DATA_DIR"):
        split_of(parse(["--work", str(tmp_path)]))
    with pytest.raises(InputError, match="no such file"):
        split_of(parse(["--work", str(tmp_path), "--interactions", str(tmp_path / "none.parquet")]))
    pd.DataFrame({"user": [1], "thing": [2]}).to_parquet(tmp_path / "odd.parquet")
    with pytest.raises(InputError, match=r"'item', 'position or timestamp'"):
        read_interactions(tmp_path / "odd.parquet")
    with pytest.raises(InputError, match="nobody can be judged"):
        leave_one_out(pd.DataFrame({"user": [1, 1], "item": [1, 2], "order": [0, 1]}))


@pytest.mark.parametrize("mode", ["quality", "throughput"])
def test_endcap_runs_as_a_contestant_on_its_own_code(mode: str, split: dict[str, Any], tmp_path: Path) -> None:
    job = Job(
        "endcap", mode, split["folder"], "", dim=8, epochs=2, batch_size=4, negatives=3, max_length=10, validation_users=5
    )
    facts = contestants.run(job, tmp_path, split["digest"], [sys.executable, "-m", "benchmarks.peers.endcap_model"])
    assert [epoch["sequences"] > 0 for epoch in facts["epochs"]] == [True, True]
    assert facts["negatives"].startswith("3 a step" if mode == "throughput" else "1024 a step")
