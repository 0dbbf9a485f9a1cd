"""Training examples: every moment is asked once, its answers come later, windows hold what they must."""

from __future__ import annotations

import numpy as np
import pytest
from tests.unit.models.test_baselines import shop

from endcap.training.sequences import Sequences, batches, make_sequences


@pytest.fixture
def sequences() -> Sequences:
    # u: a+b, then c nine days later, then a twenty days after that; v comes once.
    return make_sequences(shop([("u", "a", 40), ("u", "b", 40), ("u", "c", 31), ("u", "a", 11), ("v", "c", 5)]), max_length=3)


def test_questions_and_answers_by_hand(sequences: Sequences) -> None:
    # u before the first event, after the basket, after c; v before the first event
    assert sequences.question_at.tolist() == [-1, 1, 2, -1]
    answers = [sequences.target_codes[a:b].tolist() for a, b in sequences.answers]
    assert answers == [[0, 1], [2], [0], [2]]
    assert sequences.gap_days.tolist() == [365.0, 9.0, 20.0, 365.0]


def test_answers_lie_after_the_question(sequences: Sequences) -> None:
    asked = sequences.question_at >= 0
    assert (sequences.asked_days[asked] > sequences.days[sequences.question_at[asked]]).all()


def test_a_window_holds_its_questions_and_never_more_than_its_length() -> None:
    rng = np.random.default_rng(0)
    rows = [("u", f"i{rng.integers(9)}", int(day)) for day in rng.permutation(90)[:60] + 1]
    made = make_sequences(shop(rows), max_length=8)
    first, last = made.windows[made.question_window].T
    inside = made.question_at >= 0
    assert (last - first <= 8).all()
    assert ((first <= made.question_at) & (made.question_at < last))[inside].all()
    seen = made.question_at - first + 1
    assert (seen[inside & (made.question_at >= 8)] >= 4).all()  # at least half a window before each
    assert len(np.unique(made.question_at)) == len(made.question_at) == 60


def test_a_pass_asks_what_was_chosen(sequences: Sequences) -> None:
    chosen = np.array([1, 2])
    (batch,) = batches(sequences, chosen, 8, 64, np.random.default_rng(0))
    assert sorted(batch.gap_days.tolist()) == [9.0, 20.0]
    for row, place, answers, answered in zip(batch.rows, batch.places, batch.answers, batch.answered, strict=True):
        assert batch.valid[row, place]
        assert answers[answered].tolist() == ([2] if batch.codes[row, place] in (0, 1) else [0])


def test_no_questions_no_batches(sequences: Sequences) -> None:
    assert not list(batches(sequences, np.zeros(0, np.int64), 8, 64, np.random.default_rng(0)))
