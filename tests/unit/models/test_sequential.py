"""Properties of the transformer: no look ahead, sets inside a moment, text alone for unseen items."""

from __future__ import annotations

import doctest
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from endcap.data.features import interactions_from_events
from endcap.models import event_kinds, precision, sequential
from endcap.models.history import encode, histories_of
from endcap.models.sequential import SequenceModel, SequenceShape
from endcap.training.sequences import make_sequences

ITEMS, DIM, TEXT = 9, 8, 4


def build(**knobs: Any) -> SequenceModel:
    torch.manual_seed(0)
    seen = torch.ones(ITEMS, dtype=torch.bool)
    seen[-1] = False
    return SequenceModel(SequenceShape(DIM, 2, 2, 6, 0.1, TEXT, **knobs), torch.randn(ITEMS, TEXT), seen).eval()


@pytest.fixture(params=[{}, {"tied": False, "positions": "from_start"}, {"positions": "none"}, {"context": True}], ids=str)
def network(request: pytest.FixtureRequest) -> SequenceModel:
    return build(**request.param)


def run(network: SequenceModel, codes: list[int], days: list[float]) -> torch.Tensor:
    kinds = torch.full((1, len(codes)), 4)
    valid = torch.ones(1, len(codes), dtype=torch.bool)
    with torch.inference_mode():
        return network(network.item_vectors(), torch.tensor([codes]), kinds, torch.tensor([days]), valid)[0]


def test_later_events_change_nothing_before_them(network: SequenceModel) -> None:
    one, other = run(network, [1, 2, 3], [-9.0, -5.0, -1.0]), run(network, [1, 2, 4], [-9.0, -5.0, -2.0])
    torch.testing.assert_close(one[:2], other[:2])


def test_positions_count_moments() -> None:
    days = torch.tensor([[-9.0, -5.0, -5.0, -1.0], [-9.0, -5.0, 0.0, 0.0]])
    valid = torch.tensor([[True, True, True, True], [True, True, False, False]])
    from_end, from_start = (build(positions=name).places(days, valid).tolist() for name in ("from_end", "from_start"))
    assert (from_end[0], from_end[1][:2]) == ([2, 1, 1, 0], [1, 0])
    assert (from_start[0], from_start[1][:2]) == ([0, 1, 1, 2], [0, 1])
    assert build(positions="none").positions is None


def test_an_item_that_is_not_tied_is_read_by_another_vector_than_it_answers_with() -> None:
    network = build(tied=False)
    with torch.inference_mode():
        items = network.item_vectors()
        state = run(network, [1, 2], [-9.0, -1.0])
        other = items.clone()
        other[:, :DIM] += 1  # what it answers with
        kinds, valid = torch.full((1, 2), 4), torch.ones(1, 2, dtype=torch.bool)
        again = network(other, torch.tensor([[1, 2]]), kinds, torch.tensor([[-9.0, -1.0]]), valid)[0]
    assert items.shape == (ITEMS, 2 * DIM)
    assert not torch.allclose(items[:, :DIM], items[:, DIM:])
    torch.testing.assert_close(state, again)
    assert not torch.allclose(network.answering(items), network.answering(other))


def test_a_basket_is_a_set(network: SequenceModel) -> None:
    one, other = run(network, [1, 2, 3], [-5.0, -1.0, -1.0]), run(network, [1, 3, 2], [-5.0, -1.0, -1.0])
    torch.testing.assert_close(one[[1, 2]], other[[2, 1]])


def test_order_in_time_matters(network: SequenceModel) -> None:
    assert not torch.allclose(run(network, [1, 2], [-9.0, -1.0])[-1], run(network, [2, 1], [-9.0, -1.0])[-1], atol=1e-3)


def test_an_unseen_item_has_the_vector_of_its_text(network: SequenceModel) -> None:
    with torch.inference_mode():
        vectors, text = network.item_vectors(), network.text_projection(network.text)
    torch.testing.assert_close(vectors[-1], text[-1])
    assert not torch.allclose(vectors[0], text[0])


def test_auto_precision_is_that_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert (precision.choose("auto"), precision.choose("auto", "cuda")) == ("fp32", "bf16")
    assert (precision.choose("bf16"), precision.choose("fp32", "cuda")) == ("bf16", "fp32")


def test_vectors_of_some_items_are_those_of_all(network: SequenceModel) -> None:
    codes = torch.tensor([3, 0])
    keep = torch.zeros(len(network.ids), dtype=torch.bool)
    torch.testing.assert_close(network.item_vectors(codes), network.item_vectors()[codes])
    torch.testing.assert_close(network.item_vectors(codes, keep), network.item_vectors(keep_id_I=keep)[codes])


def test_examples_in_the_docs_hold() -> None:
    assert doctest.testmod(event_kinds).attempted
    assert doctest.testmod(event_kinds).failed == 0


@pytest.mark.parametrize(
    ("column", "one", "other"),
    [
        ("quantity", 1.0, 40.0),
        ("price", 2.5, 60.0),
        ("price", 2.5, None),
        ("surface", "home", "email"),
        ("country", "France", "Spain"),
        ("country", "France", None),
    ],
)
def test_how_an_event_was_is_heard_and_training_and_requests_say_it_alike(column: str, one: Any, other: Any) -> None:
    network = build(context=True)
    torch.nn.init.normal_(network.kinds.countries.weight)
    times = pd.to_datetime(["2011-11-01", "2011-11-03"], utc=True)
    events = pd.DataFrame({"user_id": "ann", "item_id": ["a", "b"], "time": times, "type": "purchase"})
    now, scores, kinds = datetime(2011, 11, 7, tzinfo=UTC), [], []
    for value in (one, other):
        shop = interactions_from_events(events.assign(**{column: [one, value]}), [f"{letter}" for letter in "abcdefghi"])
        [history] = histories_of(shop, np.array([0]), np.array([2]))
        batch = encode([history], {item: code for code, item in enumerate(shop.item_ids)}, now)
        scores.append(network.score(batch, network.item_vectors()))
        kinds.append(make_sequences(shop, 6).kinds)
        np.testing.assert_array_equal(sequential.padded(batch, 6)[2].numpy()[0], kinds[-1])
    assert not np.allclose(scores[0], scores[1])
    assert kinds[0][0] == kinds[1][0] != kinds[1][1]
