"""Shops that no one would wish for: next to nothing, all at once, too much of one shopper, things that vanish or break."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tests.fixtures.tiny_model import START, UNTIL, tiny_catalog, tiny_events, tiny_text

from endcap.data.features import Interactions, interactions_from_events
from endcap.errors import TrainingError
from endcap.models.blend import BlendedRecommender
from endcap.models.digest import digest
from endcap.models.history import History
from endcap.models.model_files import save_model
from endcap.training import trainer
from endcap.training.fitting import Fitted, fit_full
from endcap.training.incremental import fit_update
from endcap.training.options import FitOptions
from endcap.training.sequences import QUESTIONS, batches, make_sequences

OPTIONS = FitOptions(dim=16, layers=1, heads=2, max_length=20, max_epochs=3, batch_size=32, seed=0)


def learnt(events: pd.DataFrame, catalog: pd.DataFrame | None = None, text: np.ndarray | None = None) -> BlendedRecommender:
    catalog, text = tiny_catalog() if catalog is None else catalog, tiny_text() if text is None else text
    known = interactions_from_events(events, list(catalog["item_id"]))
    return fit_full(known, catalog, text, UNTIL, OPTIONS).model


def scores(model: BlendedRecommender, *items: str) -> np.ndarray:
    found = model.score([History(list(items), [UNTIL - timedelta(days=1)] * len(items))], UNTIL)[0]
    assert np.isfinite(found).all()
    return found


def purchases(items: list[str], times: list[pd.Timestamp], user: str = "user00") -> pd.DataFrame:
    first = tiny_events().iloc[:1]
    return first.loc[first.index.repeat(len(items))].assign(
        user_id=user, item_id=items, time=times, event_id=[f"e{number}" for number in range(len(items))]
    )


def test_one_event_makes_a_model() -> None:
    catalog = tiny_catalog().iloc[:1]
    model = learnt(tiny_events().query("item_id == 'item00'").iloc[:1], catalog, np.zeros((1, 8), np.float32))
    assert scores(model).shape == scores(model, "item00").shape == (1,)


def test_one_event_in_a_catalogue_makes_what_was_bought_first() -> None:
    model = learnt(purchases(["item05"], [pd.Timestamp(UNTIL) - pd.Timedelta(days=3)]))
    assert model.item_ids[int(scores(model).argmax())] == "item05"


def test_everything_at_one_moment_is_learnt_as_one_basket_each() -> None:
    events = tiny_events().assign(time=pd.Timestamp(UNTIL) - pd.Timedelta(days=2))
    model = learnt(events.drop_duplicates(["user_id", "item_id"]))
    ranked = scores(model, "item00")
    group = np.arange(len(ranked)) % 4 == 0  # who buys item00 buys the others of its group
    others = np.arange(len(ranked)) >= 20  # never bought
    assert ranked[group & ~others][1:].mean() > ranked[~group & ~others].mean()


@pytest.mark.parametrize("apart", [True, False], ids=["spread over the year", "in one moment"])
def test_a_shopper_with_a_hundred_thousand_events_fits_into_small_batches(apart: bool) -> None:
    count = 100_000
    times = pd.Timestamp(START) + pd.to_timedelta(np.arange(count) * 10 if apart else np.zeros(count), unit="s")
    known = whale(count, times)
    sequences = make_sequences(known, 100)
    assert len(sequences.question_at) <= count + 1
    assert len(sequences.windows) <= 2 * count / 100 + 2
    questions = np.arange(len(sequences.question_at))
    for batch in batches(sequences, questions, 32, 1024, np.random.default_rng(0)):
        assert batch.codes.shape[0] <= 32
        assert batch.codes.shape[1] <= 100
        assert batch.codes.numel() <= 1024
        assert len(batch.rows) <= 32 * QUESTIONS


def whale(count: int, times: pd.DatetimeIndex) -> Interactions:
    items = [f"item{number:02d}" for number in np.random.default_rng(0).integers(0, 20, count)]
    return interactions_from_events(purchases(items, list(times)), list(tiny_catalog()["item_id"]))


def test_a_shopper_with_very_many_events_does_not_drown_the_others() -> None:
    count = 5_000
    times = pd.Timestamp(UNTIL) - pd.to_timedelta(np.arange(count, 0, -1) * 60, unit="s")
    noise = purchases([f"item{number:02d}" for number in np.random.default_rng(0).integers(0, 20, count)], list(times), "robot")
    noise["event_id"] = [f"robot{number}" for number in range(count)]
    model = learnt(pd.concat([tiny_events(), noise], ignore_index=True))
    items = ["item00", "item04", "item00", "item08", "item00", "item12"]
    history = History(items, [UNTIL - timedelta(days=day) for day in (16, 16, 11, 11, 6, 6)])
    assert model.item_ids[int(model.score([history], UNTIL)[0].argmax())] == "item00"


def test_items_without_text_are_learnt_by_their_events() -> None:
    model = learnt(tiny_events(), text=np.zeros((24, 8), np.float32))
    ranked = scores(model, "item00", "item04")
    assert ranked[:20].max() > ranked[20:].max()


def test_items_with_one_text_stay_apart() -> None:
    text = tiny_text()
    text[1] = text[0]
    ranked = scores(learnt(tiny_events(), text=text), "item00", "item04", "item08")
    assert ranked[0] > ranked[1]


def test_an_item_listed_twice_is_refused_by_name() -> None:
    """The stage prepare keeps one row an item; should two come through, the fit refuses them by name."""
    catalog = pd.concat([tiny_catalog(), tiny_catalog().iloc[:1]], ignore_index=True)
    text = np.vstack([tiny_text(), tiny_text()[:1]])
    with pytest.raises(TrainingError, match=r"item00.*more than once"):
        learnt(tiny_events(), catalog, text)


@pytest.mark.parametrize("with_their_events", [False, True])
def test_an_update_on_a_catalogue_that_lost_items(with_their_events: bool) -> None:
    since, gone = UNTIL - timedelta(days=7), ["item00", "item05"]
    ids = list(tiny_catalog()["item_id"])
    parent = fit_full(interactions_from_events(tiny_events(), ids), tiny_catalog(), tiny_text(), since, OPTIONS).model
    left = [place for place, item in enumerate(ids) if item not in gone]
    events, catalog, text = tiny_events(), tiny_catalog().iloc[left].reset_index(drop=True), tiny_text()[left]
    if with_their_events:  # stages.prepare lists what was sold without a text
        catalog = pd.concat([catalog, pd.DataFrame({"item_id": gone, "title": ""})], ignore_index=True)
        text = np.vstack([text, np.zeros((len(gone), 8), np.float32)])
    else:
        events = events[~events["item_id"].isin(gone)]
    known = interactions_from_events(events, list(catalog["item_id"]))
    child = fit_update(parent, known, catalog, text, since, UNTIL, OPTIONS).model
    assert list(child.item_ids) == list(catalog["item_id"])
    before, after = scores(parent, "item04", "item08"), scores(child, "item04", "item08")
    kept = [list(child.item_ids).index(item) for item in ids if item not in gone]
    assert np.corrcoef(before[left], after[kept])[0, 1] > 0.9
    scores(child, "item00")  # the shopper's history still names it


def test_events_of_items_that_nobody_lists_are_refused_by_name() -> None:
    known = interactions_from_events(tiny_events(), list(tiny_catalog()["item_id"][1:]))
    with pytest.raises(TrainingError, match="item00"):
        fit_full(known, tiny_catalog().iloc[1:].reset_index(drop=True), tiny_text()[1:], UNTIL, OPTIONS)


def whole_fit(checkpoint: Path | None, progress: Callable[[str], None] = lambda _: None) -> Fitted:
    known = interactions_from_events(tiny_events(), list(tiny_catalog()["item_id"]))
    return fit_full(known, tiny_catalog(), tiny_text(), UNTIL, OPTIONS, checkpoint_path=checkpoint, progress=progress)


def test_a_whole_fit_that_was_interrupted_ends_with_the_same_bits(tmp_path: Path) -> None:
    def dies(line: str) -> None:
        if line.startswith("epoch 2/"):
            raise KeyboardInterrupt

    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        whole_fit(path, dies)
    lines: list[str] = []
    save_model(whole_fit(None).model, tmp_path / "whole")
    save_model(whole_fit(path, lines.append).model, tmp_path / "resumed")
    assert [line.split()[1] for line in lines] == ["3/3", "1/2", "2/2"]  # the third epoch, then what absorbs the newest days
    assert digest(tmp_path / "resumed") == digest(tmp_path / "whole")


def test_an_update_that_was_interrupted_ends_with_the_same_bits_and_never_with_another_parents(tmp_path: Path) -> None:
    known = interactions_from_events(tiny_events(), list(tiny_catalog()["item_id"]))
    since, path = UNTIL - timedelta(days=7), tmp_path / "checkpoint.safetensors"
    parents = [
        fit_full(known, tiny_catalog(), tiny_text(), since, dataclasses.replace(OPTIONS, seed=seed)).model for seed in (0, 1)
    ]

    def update(parent: int, checkpoint: Path | None, progress: Callable[[str], None] = lambda _: None) -> str:
        about = (known, tiny_catalog(), tiny_text(), since, UNTIL, OPTIONS, progress)
        save_model(fit_update(parents[parent], *about, checkpoint_path=checkpoint).model, tmp_path / "child")
        return digest(tmp_path / "child")

    def dies(line: str) -> None:
        if line.startswith("epoch 1/"):
            raise KeyboardInterrupt

    for parent, epochs in ((0, ["2/2"]), (1, ["1/2", "2/2"])):
        whole = update(parent, None)
        path.unlink(missing_ok=True)
        with pytest.raises(KeyboardInterrupt):
            update(0, path, dies)
        lines: list[str] = []
        assert update(parent, path, lines.append) == whole
        assert [line.split()[1] for line in lines] == epochs


def test_a_loss_that_breaks_late_keeps_the_checkpoint_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real = tmp_path / "checkpoint.safetensors", trainer.batch_loss

    def breaks(model: torch.nn.Module, *others: object) -> torch.Tensor:
        loss = real(model, *others)  # type: ignore[arg-type]
        return loss * torch.nan if model.training and len(kept) == 2 else loss

    kept: list[bytes] = []
    monkeypatch.setattr(trainer, "batch_loss", breaks)
    with pytest.raises(TrainingError, match=r"epoch 3, step 1: the loss is not finite.*train\.learning_rate"):
        whole_fit(path, lambda _: kept.append(path.read_bytes()))
    assert path.read_bytes() == kept[-1]
    monkeypatch.setattr(trainer, "batch_loss", real)
    lines: list[str] = []
    whole_fit(path, lines.append)
    assert lines[0].startswith("epoch 3/3")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
    ],
    ids=["python", "cpu", "gpu"],
)
def test_no_memory_says_which_settings_to_lower(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def hungry(*_: object) -> torch.Tensor:
        raise error

    monkeypatch.setattr(trainer, "batch_loss", hungry)
    with pytest.raises(TrainingError, match=r"memory.*Lower train\.batch_size.*train\.max_length.*train\.dim") as caught:
        whole_fit(None)
    assert "batch_size=32" in str(caught.value)


def test_a_defect_is_not_taken_for_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object) -> torch.Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(trainer, "batch_loss", wrong)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        whole_fit(None)
