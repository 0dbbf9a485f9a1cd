"""Fits of a hand-made shop: repeatable, resumable, honest, loud when they fail; updates that learn and do not forget."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tests.fixtures.tiny_model import GROUPS, UNTIL, tiny_catalog, tiny_events, tiny_model, tiny_text

from endcap.benchmark.quality.studies import Silenced
from endcap.data.features import interactions_from_events
from endcap.errors import TrainingError
from endcap.evaluation.protocol import Period
from endcap.models.blend import BlendedRecommender
from endcap.models.history import Floats, History
from endcap.models.model_files import load_model, save_model
from endcap.models.sequential import SequenceModel
from endcap.models.signals import DENSE, SIGNALS
from endcap.training import fitting, ranking, trainer
from endcap.training.blending import Standing
from endcap.training.examples import Example, Examples
from endcap.training.fitting import FULL_HOLD, fit_full, learn_blend, new_network
from endcap.training.incremental import fit_update, grow
from endcap.training.losses import Objective
from endcap.training.options import FitOptions
from endcap.training.schedule import Curve
from endcap.training.sequences import make_sequences
from endcap.training.trainer import train

OPTIONS = FitOptions(dim=16, layers=1, heads=2, max_length=20, max_epochs=4, batch_size=32, seed=0)


def interactions(events: pd.DataFrame | None = None) -> object:
    return interactions_from_events(tiny_events() if events is None else events, list(tiny_catalog()["item_id"]))


def network_and_training() -> tuple[SequenceModel, object, np.ndarray]:
    torch.manual_seed(0)
    known = interactions()
    sequences = make_sequences(known, OPTIONS.max_length)  # type: ignore[arg-type]
    return new_network(known, tiny_text(), OPTIONS), sequences, np.arange(len(sequences.question_at))  # type: ignore[arg-type]


def fitted(network: SequenceModel, sequences: object, questions: np.ndarray, epochs: int, path: Path | None) -> Curve:
    return train(network, sequences, questions, dataclasses.replace(OPTIONS.schedule(), epochs=epochs), checkpoint_path=path)  # type: ignore[arg-type]


def test_the_loss_falls() -> None:
    curve = fitted(*network_and_training(), 4, None)
    assert curve.train[-1] < curve.train[0]


def test_a_killed_training_resumes_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = network_and_training()
    fitted(*whole, 4, None)
    killed = network_and_training()
    real, path = trainer._epoch, tmp_path / "checkpoint.safetensors"

    def dies(*args: object) -> float:
        if args[5] == 2:
            raise KeyboardInterrupt
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer, "_epoch", dies)
    with pytest.raises(KeyboardInterrupt):
        fitted(*killed, 4, path)
    monkeypatch.setattr(trainer, "_epoch", real)
    resumed = network_and_training()
    shown: list[str] = []
    schedule = dataclasses.replace(OPTIONS.schedule(), epochs=4)
    train(*resumed, schedule, checkpoint_path=path, progress=shown.append)  # type: ignore[arg-type]
    assert len(shown) == 2
    for name, weight in whole[0].state_dict().items():
        torch.testing.assert_close(resumed[0].state_dict()[name], weight, rtol=0, atol=0)


def test_a_checkpoint_of_another_schedule_or_a_torn_one_is_not_resumed(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    fitted(*network_and_training(), 2, path)
    assert len(fitted(*network_and_training(), 1, path).train) == 1
    path.write_bytes(b"torn")
    assert len(fitted(*network_and_training(), 1, path).train) == 1


def test_a_checkpoint_of_other_data_is_not_resumed(tmp_path: Path) -> None:
    """It would bring along what was learnt from days that this fit must not know."""
    path = tmp_path / "checkpoint.safetensors"
    network, sequences, questions = network_and_training()
    for text, asked, epochs in (
        (network.text, questions, 2),
        (-network.text, questions, 2),
        (-network.text, questions[:-1], 2),
        (-network.text, questions[:-1], 0),
    ):
        own, _, _ = network_and_training()
        own.text.copy_(text)
        shown: list[str] = []
        schedule = dataclasses.replace(OPTIONS.schedule(), epochs=2)
        train(own, sequences, asked, schedule, checkpoint_path=path, progress=shown.append)
        assert len(shown) == epochs


def test_a_loss_that_is_not_finite_names_its_step(tmp_path: Path) -> None:
    network, sequences, questions = network_and_training()
    path = tmp_path / "checkpoint.safetensors"
    fitted(network, sequences, questions, 1, path)
    kept = path.read_bytes()
    with torch.no_grad():
        network.start.fill_(torch.nan)
    schedule = dataclasses.replace(OPTIONS.schedule(), epochs=2)
    with pytest.raises(TrainingError, match="epoch 1, step 1: the loss is not finite"):
        train(network, sequences, questions, schedule, checkpoint_path=path)  # type: ignore[arg-type]
    assert path.read_bytes() == kept


def test_who_judges_the_mix_taught_no_weights_and_weights_are_learnt_from_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """The only slice, in parts of three shoppers: the first teaches the weights, all others judge."""
    made: list[tuple[str, ...]] = []
    judged: list[int] = []
    real_examples, real_stand = fitting.examples_of, fitting.stand

    def examples_of(model: BlendedRecommender, moment: datetime, seed: int, period: Period) -> list[Example]:
        made.append(tuple(period.user_ids))
        return real_examples(model, moment, seed, period)

    def stand(examples: Examples, weights: Floats) -> Standing:
        judged.append(len(examples.context))
        return real_stand(examples, weights)

    monkeypatch.setattr(ranking, "MIN_POSITIVES", 1)
    monkeypatch.setattr(ranking, "EARLIER_DAYS", 7)
    monkeypatch.setattr(fitting, "SLICE_USERS", 3)
    monkeypatch.setattr(fitting, "JUDGES", 9)
    monkeypatch.setattr(fitting, "examples_of", examples_of)
    monkeypatch.setattr(fitting, "stand", stand)
    options = dataclasses.replace(OPTIONS, validation_days=14.0, horizon_days=14.0, max_epochs=1)
    fit_full(interactions(), tiny_catalog(), tiny_text(), UNTIL, options)  # type: ignore[arg-type]
    users = [user for part in made for user in part]
    assert len(users) == len(set(users)) == 12
    assert {len(part) for part in made} == {3}
    assert judged == [3, 3, 3]


def test_nothing_to_learn_from_is_said() -> None:
    network, sequences, _ = network_and_training()
    with pytest.raises(TrainingError, match="no shopper came twice"):
        train(network, sequences, np.zeros(0, np.int64), OPTIONS.schedule())  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="no events before"):
        fit_full(interactions(), tiny_catalog(), tiny_text(), UNTIL - timedelta(days=99), OPTIONS)  # type: ignore[arg-type]


def test_a_fit_knows_nothing_of_what_comes_after_it() -> None:
    events, until = tiny_events(), UNTIL - timedelta(days=7)
    past = events[events["time"] < pd.Timestamp(until)]
    scores = []
    for frame in (events, past):
        model = fit_full(interactions(frame), tiny_catalog(), tiny_text(), until, OPTIONS).model  # type: ignore[arg-type]
        scores.append(model.score([History(["item00"], [until])], until))
    np.testing.assert_array_equal(scores[0], scores[1])


def test_an_update_learns_a_new_item_and_keeps_the_rest() -> None:
    since = UNTIL - timedelta(days=7)
    parent = fit_full(interactions(), tiny_catalog(), tiny_text(), since, OPTIONS).model  # type: ignore[arg-type]
    fresh = tiny_events()
    late = fresh["time"] >= pd.Timestamp(since)
    fresh.loc[late & fresh["item_id"].isin(["item00", "item04"]), "item_id"] = "item20"  # listed before, never bought
    before = parent.score([History.empty()], UNTIL)[0]
    child = fit_update(parent, interactions(fresh), tiny_catalog(), tiny_text(), since, UNTIL, OPTIONS).model  # type: ignore[arg-type]
    after = child.score([History.empty()], UNTIL)[0]
    place = parent.item_ids.index("item20")
    assert (after > after[place]).sum() < (before > before[place]).sum()
    assert child.items["seen_in_training"][place]
    assert not parent.items["seen_in_training"][place]
    np.testing.assert_array_equal(parent.score([History.empty()], UNTIL)[0], before)


def test_an_update_never_forgets_what_its_parent_has_seen() -> None:
    parent, until = tiny_model(epochs=1), UNTIL - timedelta(days=7)
    child = fit_update(parent, interactions(), tiny_catalog(), tiny_text(), until, until, OPTIONS).model  # type: ignore[arg-type]
    assert child.config["trained_until"] == parent.config["trained_until"]


@pytest.mark.parametrize(
    "knobs", [{"tied": False}, {"positions": "from_start"}, {"tied": False, "positions": "none"}, {"context": True}], ids=str
)
def test_every_shape_is_fitted_saved_loaded_and_updated(knobs: dict[str, Any], tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, **knobs, max_epochs=1)
    shop, middle = interactions(), UNTIL - timedelta(days=7)
    fresh = fit_full(shop, tiny_catalog(), tiny_text(), middle, options).model  # type: ignore[arg-type]
    save_model(fresh, tmp_path / "model")
    parent = load_model(tmp_path / "model")
    for name, tensor in fresh.model.state_dict().items():
        torch.testing.assert_close(parent.model.state_dict()[name], tensor, rtol=0, atol=0)
    assert {name: getattr(parent.model.shape, name) for name in knobs} == knobs
    updated = fit_update(parent, shop, tiny_catalog(), tiny_text(), middle, UNTIL, options).model  # type: ignore[arg-type]
    assert updated.item_vectors.shape == (len(tiny_catalog()), OPTIONS.dim)
    assert np.isfinite(updated.score([History.empty()], UNTIL)).all()
    assert updated.model.shape == parent.model.shape
    assert updated.model.state_dict().keys() == parent.model.state_dict().keys()


def test_an_update_keeps_as_many_factors_as_its_parent_has(tmp_path: Path) -> None:
    shop, middle = interactions(), UNTIL - timedelta(days=7)
    options = dataclasses.replace(OPTIONS, factors=4, max_epochs=1)
    save_model(fit_full(shop, tiny_catalog(), tiny_text(), middle, options).model, tmp_path)  # type: ignore[arg-type]
    parent = load_model(tmp_path)
    without = dataclasses.replace(options, factors=0)  # params.yaml may have changed since; the weights are the parent's
    child = fit_update(parent, shop, tiny_catalog(), tiny_text(), middle, UNTIL, without).model  # type: ignore[arg-type]
    assert child.counts.factors.values.shape == (len(tiny_catalog()), 4)
    assert not np.array_equal(child.counts.factors.values, parent.counts.factors.values)  # of the new days too
    assert np.isfinite(child.score([History.empty()], UNTIL)).all()


def test_the_blend_learns_to_use_factors() -> None:
    model = tiny_model(epochs=1, options={"factors": 4})
    alone = Silenced(
        model.items, model.model, model.counts, model.target_types, np.zeros_like(model.weights),
        silent=frozenset(DENSE) - {"factors"},
    )  # fmt: skip
    learn_blend(alone, interactions(), UNTIL - timedelta(days=7), UNTIL, OPTIONS, FULL_HOLD)  # type: ignore[arg-type]
    assert alone.weights[SIGNALS.index("factors"), 0] > 0.1
    held = ["item00", "item04"]
    scores = alone.score([History(held, [UNTIL - timedelta(days=2)] * 2)], UNTIL)[0]
    near = [item for item in alone.items["item_id"] if int(item[4:]) % GROUPS == 0 and item not in (*held, "item20")]
    far = [item for item in alone.items["item_id"] if int(item[4:]) % GROUPS]
    order = dict(zip(alone.item_ids, scores, strict=True))
    assert min(order[item] for item in near) > max(order[item] for item in far)


def test_new_items_get_their_vector_from_text() -> None:
    parent = tiny_model(epochs=1)
    ids = [*parent.item_ids[::-1], "brand new"]
    text = np.vstack([tiny_text()[::-1], tiny_text()[:1]])
    network = grow(parent, ids, text)
    with torch.inference_mode():
        vectors, projected = network.item_vectors(), network.text_projection(network.text)
    np.testing.assert_allclose(vectors[:-1].numpy()[::-1], parent.item_vectors, atol=2e-3)
    torch.testing.assert_close(vectors[-1], projected[-1])


@pytest.mark.parametrize("kind", ["view", "click", "cart"])
def test_a_shop_without_purchases_is_learnt(kind: str) -> None:
    model = fit_full(interactions(tiny_events().assign(type=kind)), tiny_catalog(), tiny_text(), UNTIL, OPTIONS).model  # type: ignore[arg-type]
    items = ["item00", "item04", "item00", "item08", "item00", "item12"]
    history = History(items, [UNTIL - timedelta(days=day) for day in (16, 16, 11, 11, 6, 6)], kind)
    assert model.item_ids[int(model.score([history], UNTIL)[0].argmax())] == "item00"


def test_one_item_and_one_shopper_make_a_model() -> None:
    events = tiny_events()
    events = events[(events["user_id"] == "user00") & (events["item_id"] == events["item_id"].iloc[0])]
    catalog = tiny_catalog().query("item_id == @events.item_id.iloc[0]").reset_index(drop=True)
    known = interactions_from_events(events, list(catalog["item_id"]))
    model = fit_full(known, catalog, np.zeros((1, 8), np.float32), UNTIL, OPTIONS).model
    assert model.score([History.empty()], UNTIL).shape == (1, 1)


@pytest.mark.parametrize(
    "objective",
    [Objective("softmax"), Objective("sampled", 8), Objective("sampled", 8, "popularity", logq=True), Objective("gbce", 8)],
    ids=["softmax", "sampled", "sampled by popularity", "gbce"],
)
def test_every_loss_learns(objective: Objective) -> None:
    network, sequences, questions = network_and_training()
    schedule = dataclasses.replace(OPTIONS.schedule(), epochs=25, learning_rate=0.01, objective=objective)
    before = trainer.judge(network, sequences, questions, schedule)  # type: ignore[arg-type]
    curve = train(network, sequences, questions, schedule)  # type: ignore[arg-type]
    assert curve.train[-1] < curve.train[0]
    assert trainer.judge(network, sequences, questions, schedule)[1] > before[1] + 0.1  # type: ignore[arg-type]
