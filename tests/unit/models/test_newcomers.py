"""Newcomers get their places and nobody else loses the order."""

import numpy as np
import pytest

from endcap.models.newcomers import LAST_PLACE, NewcomerPlaces

ITEMS, NEW = 60, 8
RNG = np.random.default_rng(0)


def slate(scores_I):
    return np.argsort(-scores_I, kind="stable")


@pytest.fixture
def scores():
    return RNG.normal(size=(5, ITEMS)).astype(np.float32) - 20 * (np.arange(ITEMS) >= ITEMS - NEW)


NEWCOMERS = np.arange(ITEMS) >= ITEMS - NEW


def test_the_best_newcomers_stand_at_their_places_and_the_rest_keeps_its_order(scores):
    given = NewcomerPlaces(11, 4).give(scores, np.zeros(scores.shape, bool), NEWCOMERS)
    for before, after in zip(scores, given, strict=True):
        order = slate(after)
        assert np.flatnonzero(NEWCOMERS[order])[:NEW].tolist() == [10, 14, 18, 22, 26, 30, 34, 38]
        assert [i for i in order if NEWCOMERS[i]] == [i for i in slate(before) if NEWCOMERS[i]]
        assert [i for i in order if not NEWCOMERS[i]] == [i for i in slate(before) if not NEWCOMERS[i]]


def test_what_the_shopper_holds_takes_no_place_so_leaving_it_out_lifts_no_newcomer(scores):
    held = np.zeros(scores.shape, bool)
    for row, given in zip(scores, held, strict=True):
        given[slate(row)[:7]] = True
    given = NewcomerPlaces(11, 4).give(scores, held, NEWCOMERS)
    for row, own in zip(given, held, strict=True):
        left = [i for i in slate(row) if not own[i]]
        assert np.flatnonzero(NEWCOMERS[left])[:3].tolist() == [10, 14, 18]


def test_a_newcomer_that_stands_higher_already_stays_there(scores):
    scores[:, ITEMS - 1] = 50
    given = NewcomerPlaces(11, 4).give(scores, np.zeros(scores.shape, bool), NEWCOMERS)
    assert (given[:, ITEMS - 1] == 50).all()
    assert all(np.flatnonzero(NEWCOMERS[slate(row)])[:2].tolist() == [0, 14] for row in given)


@pytest.mark.parametrize(
    ("places", "newcomers"),
    [(NewcomerPlaces(11, 0), NEWCOMERS), (NewcomerPlaces(11, 4), NEWCOMERS & False), (NewcomerPlaces(11, 4), NEWCOMERS | True),
     (NewcomerPlaces(LAST_PLACE + 1, 1), NEWCOMERS), (NewcomerPlaces(ITEMS, 4), NEWCOMERS)],
)  # fmt: skip
def test_without_places_or_newcomers_or_anybody_to_stand_behind_nothing_changes(scores, places, newcomers):
    assert (places.give(scores, np.zeros(scores.shape, bool), newcomers) == scores).all()


def test_a_shopper_who_holds_everything_and_an_empty_batch_are_left_alone(scores):
    held = np.ones(scores.shape, bool)
    assert (NewcomerPlaces().give(scores, held, NEWCOMERS) == scores).all()
    assert NewcomerPlaces().give(scores[:0], held[:0], NEWCOMERS).shape == (0, ITEMS)


def test_the_first_place_of_all_can_be_theirs(scores):
    given = NewcomerPlaces(1, 2).give(scores, np.zeros(scores.shape, bool), NEWCOMERS)
    assert all(np.flatnonzero(NEWCOMERS[slate(row)])[:3].tolist() == [0, 2, 4] for row in given)
