"""Texts of a benchmark are encoded as params.yaml says, the encoder taught first where it says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.fixtures.tiny_encoder import build_tiny_encoder

from endcap.benchmark import texts
from endcap.benchmark.item_table import ItemTable, read_items
from endcap.benchmark.splits import Split, leave_one_out
from endcap.benchmark.tables import read_events
from endcap.config import Params
from endcap.progress import silent

TITLES = ["red cup", "blue cup", "", "garden hose", "green hose", "red cup"]


@pytest.fixture
def shop(tmp_path: Path) -> tuple[ItemTable, Split]:
    """Six items, one without text, two that read the same."""
    names = [f"i{place}" for place in range(len(TITLES))]
    pd.DataFrame({"item": names, "title": TITLES}).to_parquet(tmp_path / "items.parquet")
    rows = [(user, names[(user + step) % len(names)], step) for user in range(12) for step in range(5)]
    pd.DataFrame(rows, columns=["user", "item", "position"]).to_parquet(tmp_path / "events.parquet")
    events = read_events(tmp_path / "events.parquet")
    items = read_items(tmp_path / "items.parquet", events.items)
    return items, leave_one_out(events, items.item_ids)


def knobs(params: Params, folder: Path, method: str) -> Params:
    encode = params.encode.model_copy(update={"model": str(build_tiny_encoder(folder / "tiny")), "whitening": "none"})
    adapt = params.adapt.model_copy(update={"method": method, "steps": 4, "layers": 1, "learning_rate": 0.01, "batch_size": 4})
    return params.model_copy(update={"encode": encode, "adapt": adapt})


def test_an_encoder_is_taught_once_and_its_vectors_are_others(
    shop: tuple[ItemTable, Split], params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, split = shop
    cache = tmp_path / "cache"
    plain, _ = texts.encode_texts(items, split.train, knobs(params, tmp_path, "none"), cache, silent)
    taught, facts = texts.encode_texts(items, split.train, knobs(params, tmp_path, "behaviour"), cache, silent)
    assert plain is not None
    assert taught is not None
    assert (facts["adapt"], facts["peft"]) == ("behaviour", "none")
    assert np.abs(plain - taught).max() > 0.01
    assert not taught[2].any()  # no text, no vector
    assert np.array_equal(taught[0], taught[5])
    monkeypatch.setattr(texts, "adapt_encoder", lambda *_: pytest.fail("taught again"))
    again, _ = texts.encode_texts(items, split.train, knobs(params, tmp_path, "behaviour"), cache, silent)
    assert again is not None
    assert np.array_equal(taught, again)


def test_nothing_is_left_behind_without_a_cache(shop: tuple[ItemTable, Split], params: Params, tmp_path: Path) -> None:
    items, split = shop
    before = set(tmp_path.rglob("*"))
    vectors, _ = texts.encode_texts(items, split.train, knobs(params, tmp_path, "contrastive"), None, silent)
    assert vectors is not None
    assert {path for path in set(tmp_path.rglob("*")) - before if "tiny" not in path.parts} == set()


def test_lessons_are_pairs_of_training_alone(shop: tuple[ItemTable, Split]) -> None:
    items, split = shop
    distinct, pairs_P2 = texts.lessons(items, split.train)
    assert sorted(distinct) == sorted(set(TITLES))
    assert "" not in {distinct[code] for code in pairs_P2.ravel()}
    assert len(pairs_P2) < len(split.train)
