"""Training examples: every moment is asked once, its answers come later, windows hold what they must."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.models.test_baselines import shop

from endcap.training.sequences import ANSWERS, QUESTIONS, Sequences, _groups, batches, make_sequences


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


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 30), max_size=60), st.integers(1, 9), st.integers(1, 90))
def test_groups_hold_every_window_once_and_keep_to_their_limits(found: list[int], size: int, tokens: int) -> None:
    lengths = np.sort(np.array(found, np.int64))
    groups = _groups(lengths, size, tokens)
    assert [window for begin, end in groups for window in range(begin, end)] == list(range(len(lengths)))
    for begin, end in groups:
        assert 1 <= end - begin <= size
        assert end - begin == 1 or (end - begin) * lengths[end - 1] <= tokens


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(1, 60)), min_size=1, max_size=40), st.integers(0, 3)
)
def test_a_pass_asks_everything_once_and_pads_with_nothing(bought: list[tuple[int, int, int]], seed: int) -> None:
    made = make_sequences(shop([(f"u{user}", f"i{item}", day) for user, item, day in bought]), max_length=60)
    asked: list[tuple[float, ...]] = []
    for batch in batches(made, np.arange(len(made.question_at)), 3, 40, np.random.default_rng(seed)):
        assert len(batch.codes) <= 3
        assert batch.codes.numel() <= 40 or len(batch.codes) == 1
        assert batch.valid.any(dim=0).all()  # no column of padding alone
        for row, place, gap, answers, answered in zip(
            batch.rows, batch.places, batch.gap_days, batch.answers, batch.answered, strict=True
        ):
            assert place < 0 or batch.valid[row, place]
            asked.append((round(float(gap), 3), *sorted(answers[answered].tolist())))
    most = np.bincount(made.question_window, minlength=len(made.windows)).max()
    expected = [
        (round(float(np.float32(gap)), 3), *sorted(made.target_codes[a:b].tolist()))
        for (a, b), gap in zip(made.answers, made.gap_days, strict=True)
    ]
    if most <= QUESTIONS and all(b - a <= ANSWERS for a, b in made.answers):
        assert sorted(asked) == sorted(expected)
