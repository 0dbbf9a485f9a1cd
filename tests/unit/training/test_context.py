"""Worlds in which the context alone decides what is taken next: the network learns it, where it may hear of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

from endcap.data.features import interactions_from_events
from endcap.models.history import Floats, History, encode
from endcap.models.sequential import SequenceModel
from endcap.training.fitting import new_network
from endcap.training.options import FitOptions
from endcap.training.schedule import Schedule
from endcap.training.sequences import Sequences, make_sequences
from endcap.training.trainer import train

MONDAY = datetime(2026, 1, 5, 12, tzinfo=UTC)
FRIDAY, EVENING = MONDAY + timedelta(days=4), MONDAY + timedelta(hours=8)
SHOPPERS = 40
# What decides, as (country, when, surface): those of the first kind take "x" a week after they took "start", the others "y".
WORLDS = {
    "country": (("France", MONDAY, ""), ("Spain", MONDAY, "")),
    "weekday": (("", MONDAY, ""), ("", FRIDAY, "")),
    "hour": (("", MONDAY, ""), ("", EVENING, "")),
    "surface": (("", MONDAY, "basket"), ("", MONDAY, "home")),
}
Case = tuple[str, datetime, str]


def events(world: str) -> pd.DataFrame:
    rows = []
    for shopper in range(SHOPPERS):
        country, when, surface = WORLDS[world][shopper % 2]
        taken = "xy"[shopper % 2]
        rows.append((f"u{shopper}", "start", when - timedelta(days=7), country, ""))
        rows.append((f"u{shopper}", taken, when, country, surface))
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "time", "country", "surface"])
    return frame.assign(type="purchase", time=pd.to_datetime(frame["time"], utc=True))


@cache
def learnt(world: str, *, context: bool = True) -> tuple[SequenceModel, Sequences]:
    shop = interactions_from_events(events(world), ["start", "x", "y"])
    options = FitOptions(
        dim=16, dropout=0.0, id_dropout=0.0, max_length=8, batch_size=8, max_epochs=40, learning_rate=0.02, ema_decay=0.0,
        context=context,
    )  # fmt: skip
    torch.manual_seed(0)
    made = make_sequences(shop, options.max_length)
    network = new_network(shop, np.zeros((3, 0), np.float32), options)
    schedule: Schedule = options.schedule()
    train(network, made, np.arange(len(made.question_at)), schedule)
    return network.eval(), made


def asked(network: SequenceModel, case: Case) -> Floats:
    """(I,) what the network says to a shopper of a country, at a moment, on a surface."""
    country, when, surface = case
    history = History(["start"], [when - timedelta(days=7)], countries=country)
    batch = encode([history], {"start": 0, "x": 1, "y": 2}, when, surface)
    with torch.inference_mode():
        scores: Floats = network.score(batch, network.item_vectors())[0]
    return scores


@pytest.mark.parametrize("world", WORLDS)
def test_what_decides_is_learnt(world: str) -> None:
    network, _ = learnt(world)
    one, other = (asked(network, case) for case in WORLDS[world])
    assert one[1] > one[2] + 1
    assert other[2] > other[1] + 1


@pytest.mark.parametrize("world", WORLDS)
def test_what_is_switched_off_is_not_heard(world: str) -> None:
    network, _ = learnt(world, context=False)
    one, other = (asked(network, case) for case in WORLDS[world])
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert network.occasions is None
    assert network.kinds.countries is None


@pytest.mark.parametrize("world", ["weekday", "hour", "surface"])
def test_a_newcomer_is_answered_by_the_occasion_too(world: str) -> None:
    network, _ = learnt(world)
    batches = [encode([History.empty()], {"start": 0, "x": 1, "y": 2}, when, on) for _, when, on in WORLDS[world]]
    one, other = (network.score(batch, network.item_vectors())[0] for batch in batches)
    assert np.isfinite([one, other]).all()
    assert one[1] - one[2] > other[1] - other[2] + 1


@pytest.mark.parametrize(
    ("world", "unseen", "other"),
    [
        ("country", ("Atlantis", MONDAY, ""), ("", MONDAY, "")),
        ("surface", ("", MONDAY, "email"), ("", MONDAY, "")),
        ("hour", ("", MONDAY + timedelta(hours=1), ""), ("", MONDAY + timedelta(hours=2), "")),
        ("weekday", ("", MONDAY + timedelta(days=1), ""), ("", MONDAY + timedelta(days=2), "")),
    ],
)
def test_what_training_never_saw_says_nothing(world: str, unseen: Case, other: Case) -> None:
    network, _ = learnt(world)
    np.testing.assert_array_equal(asked(network, unseen), asked(network, other))
    assert not np.allclose(asked(network, unseen), asked(network, WORLDS[world][0]))


@pytest.mark.parametrize("world", WORLDS)
def test_a_question_is_the_same_in_training_and_in_a_request(world: str) -> None:
    network, made = learnt(world)
    heard: list[torch.Tensor] = []
    network.occasions.register_forward_hook(lambda _, given, __: heard.append(given[0]))
    for case in WORLDS[world]:
        asked(network, case)
    network.occasions._forward_hooks.clear()
    later = made.question_at >= 0
    assert {int(number) for numbers in heard for number in numbers} == set(made.occasions[later].tolist())
