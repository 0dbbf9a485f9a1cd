"""Each switch does what it says and no more; answers never come into view; off is off."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.models.test_baselines import shop
from tests.unit.training.test_fitting import OPTIONS, network_and_training

from endcap.training.augmentation import Augment, augment
from endcap.training.sequences import WindowBatch, batches, make_sequences
from endcap.training.trainer import train

SHARES = st.sampled_from([0.0, 0.3, 1.0])


def windows(lengths: tuple[int, ...] = (6, 6, 3, 1)) -> WindowBatch:
    """One batch; every item is bought once, weeks apart, so that an item names its event."""
    rows = [(f"u{user}", f"i{user}{visit}", 100 - 10 * visit) for user, many in enumerate(lengths) for visit in range(many)]
    made = make_sequences(shop(rows), max_length=8)
    (batch,) = batches(made, np.arange(len(made.question_at)), 99, 999, np.random.default_rng(0))
    return batch


def same(one: WindowBatch, other: WindowBatch) -> bool:
    pairs = [(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(WindowBatch)]
    return all(a is b or (a is not None and b is not None and torch.equal(a, b)) for a, b in pairs)


def test_off_changes_nothing_and_draws_nothing() -> None:
    batch, rng = windows(), np.random.default_rng(0)
    assert augment(batch, Augment(), rng) is batch
    assert rng.random() == np.random.default_rng(0).random()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(SHARES, SHARES, SHARES, st.integers(0, 5))
def test_answers_stay_and_never_come_into_view(crop: float, mask: float, reorder: float, seed: int) -> None:
    batch = windows()
    changed, again = (augment(batch, Augment(crop, mask, reorder), np.random.default_rng(seed)) for _ in range(2))
    assert same(changed, again)
    asked = {tuple(answers.tolist()) for answers in batch.answers}
    assert {tuple(answers.tolist()) for answers in changed.answers} <= asked
    for row, place, answers in zip(changed.rows, changed.places, changed.answers, strict=True):
        assert place < 0 or changed.valid[row, place]
        before = changed.codes[row, : place + 1][changed.valid[row, : place + 1]]
        assert not np.isin(answers, before).any()
    last = [int(batch.places[batch.rows == row].max()) for row in range(len(batch.codes))]
    for row, place in enumerate(last):  # the newest question, whose answer nothing in the window holds, is always asked
        assert ((changed.rows == row) & (changed.places == place)).any()


def test_a_crop_takes_a_beginning() -> None:
    batch = windows()
    lost = set()
    for seed in range(30):
        changed = augment(batch, Augment(crop=1.0), np.random.default_rng(seed))
        assert (changed.valid[:, 1:] >= changed.valid[:, :-1])[batch.valid[:, 1:]].all()
        assert torch.equal(changed.codes, batch.codes)
        lost |= {int(count) for count in (batch.valid & ~changed.valid).sum(dim=1)}
    assert lost == {0, 1, 2, 3, 4}  # of six events the sixth is only an answer, and the fifth asks for it


def test_a_mask_hides_items_and_nothing_else() -> None:
    batch = windows()
    changed = augment(batch, Augment(mask=0.5), np.random.default_rng(0))
    assert changed.shown is not None
    assert 0 < int(changed.shown.sum()) < changed.shown.numel()
    assert same(dataclasses.replace(changed, shown=None), batch)


def test_a_hidden_item_is_not_read() -> None:
    network, *_ = network_and_training()
    network.eval()
    days, kinds, valid = torch.tensor([[-9.0, -1.0]]), torch.full((1, 2), 4), torch.ones(1, 2, dtype=torch.bool)
    with torch.inference_mode():
        states = {
            (first, shown): network(
                network.item_vectors(), torch.tensor([[first, 3]]), kinds, days, valid, torch.tensor([[shown, True]])
            )
            for first in (1, 2)
            for shown in (True, False)
        }
        plain = network(network.item_vectors(), torch.tensor([[1, 3]]), kinds, days, valid)
    torch.testing.assert_close(states[1, False], states[2, False], rtol=0, atol=0)
    torch.testing.assert_close(states[1, True], plain, rtol=0, atol=0)
    assert not torch.allclose(states[1, True], states[2, True])


def test_neighbours_change_places() -> None:
    batch = windows((6,))
    changed = augment(batch, Augment(reorder=1.0), np.random.default_rng(0))
    a, b, c, d, e = batch.codes[0].tolist()
    assert changed.codes[0].tolist() == [b, a, d, c, e]
    assert torch.equal(changed.days, batch.days)
    assert changed.places.sort().values.tolist() == [-1, 1, 3, 4]  # 0 and 2 would see what they ask for


def test_lines_of_a_basket_stay() -> None:
    made = make_sequences(shop([("u", "a", 20), ("u", "b", 20), ("u", "c", 9)]), max_length=8)
    (batch,) = batches(made, np.arange(len(made.question_at)), 9, 99, np.random.default_rng(0))
    assert same(augment(batch, Augment(reorder=1.0), np.random.default_rng(0)), batch)


@pytest.mark.parametrize(
    "switch",
    [{"augment": Augment(crop=0.5)}, {"augment": Augment(mask=0.5)}, {"augment": Augment(reorder=0.5)}, {"adversarial": 0.5}],
    ids=["crop", "mask", "reorder", "adversarial"],
)
def test_each_switch_reaches_the_training_and_is_repeatable(switch: dict[str, object]) -> None:
    def losses(**changes: object) -> list[float]:
        schedule = dataclasses.replace(OPTIONS, **changes).schedule()  # type: ignore[arg-type]
        return train(*network_and_training(), dataclasses.replace(schedule, epochs=2)).train  # type: ignore[arg-type]

    assert losses(**switch) == losses(**switch)
    assert losses(**switch) != losses()
