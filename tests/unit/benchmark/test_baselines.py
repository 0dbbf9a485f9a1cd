"""How the knobs of baselines are chosen: by validation, and by nothing else."""

from __future__ import annotations

import dataclasses
import doctest
from pathlib import Path

import numpy as np
from tests.fixtures.benchmark_files import group_shop

from endcap.benchmark import baselines
from endcap.benchmark.baselines import Baseline, Ladder, choose, climb
from endcap.benchmark.splits import Split, leave_one_out
from endcap.benchmark.tables import read_events
from endcap.models.collaborative import ItemKnn
from endcap.models.popularity import Popularity


def test_examples_in_the_docs_hold() -> None:
    found = doctest.testmod(baselines)
    assert (found.failed, found.attempted > 0) == (0, True)


def test_each_knob_climbs_while_it_helps_and_nothing_is_tried_twice() -> None:
    asked: list[tuple[float, ...]] = []

    def judge(knobs: dict[str, float]) -> float:
        asked.append(tuple(knobs.values()))
        return -abs(knobs["x"] - 1) - abs(knobs["y"] - 30)

    best, tried = climb({"x": Ladder((1, 2, 3, 4), 3), "y": Ladder((10, 20, 30, 40), 10)}, judge)
    assert best == {"x": 1, "y": 30}
    assert len(asked) == len(set(asked)) == len(tried)
    assert climb({}, judge) == ({}, [])


def shop(folder: Path) -> Split:
    events = read_events(group_shop(folder))
    return leave_one_out(events, sorted(set(events.items)))


def one(kind: float) -> Popularity | ItemKnn:
    return ItemKnn() if kind else Popularity()


def test_validation_chooses_and_the_test_has_no_say(tmp_path: Path) -> None:
    split = shop(tmp_path)
    either = Baseline(one, {"kind": Ladder((0, 1), 0)})
    chosen = choose(either, split, mask_seen=True)
    assert chosen.knobs == {"kind": 1}
    assert isinstance(chosen.scorer, ItemKnn)
    assert [entry["kind"] for entry in chosen.tried] == [0, 1]
    nonsense = dataclasses.replace(split.test, wanted_codes=np.zeros_like(split.test.wanted_codes))
    again = choose(either, dataclasses.replace(split, test=nonsense), mask_seen=True)
    assert (again.knobs, again.tried) == (chosen.knobs, chosen.tried)


def test_leave_one_out_never_learns_the_validation_and_time_does(tmp_path: Path) -> None:
    split = shop(tmp_path)
    counts = {True: len(split.known), False: len(split.train)}
    for learn, count in counts.items():
        scorer = choose(Baseline(Popularity), dataclasses.replace(split, learn_validation=learn), mask_seen=True).scorer
        assert isinstance(scorer, Popularity)
        assert scorer.counts.sum() == count
