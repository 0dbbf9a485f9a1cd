"""Figures out of slates: whom a lead is held against."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.fixtures.benchmark_files import group_shop

from endcap.benchmark.quality.summary import Run, summarise
from endcap.benchmark.splits import leave_one_out
from endcap.benchmark.tables import read_events
from endcap.evaluation.report import Confidence


def test_a_variant_is_held_against_its_own_seed_and_a_baseline_against_the_mean(tmp_path: Path) -> None:
    events = read_events(group_shop(tmp_path))
    split = leave_one_out(events, sorted(set(events.items)))
    wanted = np.zeros(len(split.test), np.int64)
    wanted[split.test.wanted_rows] = split.test.wanted_codes
    items = len(split.item_ids)
    first, third = (np.stack([np.roll(np.delete(np.arange(items), w), 0) for w in wanted]) for _ in range(2))
    first, third = (np.insert(base[:, :10], place, wanted, axis=1)[:, :10] for base, place in ((first, 0), (third, 2)))
    never = np.stack([np.delete(np.arange(items), w)[:10] for w in wanted])
    runs = [
        Run("ours", 1, first, {}),
        Run("ours", 2, third, {}),
        Run("variant", 2, never, {}, variant=True),
        Run("other", 1, never, {}),
    ]
    found = summarise(runs, "ours", split, Confidence(50, 0.9, 1), mask_seen=False)
    one, half = found["ours"]["seeds"]["1"]["ndcg@10"], found["ours"]["seeds"]["2"]["ndcg@10"]
    assert (one, half) == (1.0, 0.5)
    assert found["variant"]["endcap_minus_this"]["ndcg@10"]["mean"] == pytest.approx(half)
    assert found["other"]["endcap_minus_this"]["ndcg@10"]["mean"] == pytest.approx((one + half) / 2)
