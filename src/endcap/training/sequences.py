"""Training examples of the sequential model: windows of a shopper's events, and in each the moments to predict from.

A question (query) stands at the last event of a moment; its answers are the target items of the next visit and the days after
it, so everything in a basket is predicted from what came before the basket, never from its own other lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from endcap.data.features import Interactions
from endcap.models.event_kinds import kinds_of
from endcap.models.history import MICROSECONDS_PER_DAY
from endcap.models.occasions import occasions_of

Ints = npt.NDArray[np.int64]
HORIZON_DAYS = 7.0  # answers reach this far beyond the next visit
QUESTIONS = 16  # at most this many questions a window and pass
ANSWERS = 16  # at most this many sampled answers a question
SPLIT = 2  # windows overlap by 1 / SPLIT of their length


@dataclass(frozen=True, slots=True, eq=False)
class Sequences:
    """Events ordered by shopper and time, with windows over them. N events, W windows, Q questions."""

    codes: Ints  # (N,) items
    kinds: Ints  # (N,) see models.event_kinds.kinds_of
    days: npt.NDArray[np.float64]  # (N,) days since the first event of all
    target: npt.NDArray[np.bool_]  # (N,)
    windows: Ints  # (W, 2) first and last + 1 event
    question_at: Ints  # (Q,) the event to predict after; -1: before the shopper's first event
    question_window: Ints  # (Q,) ascending
    answers: Ints  # (Q, 2) range in `target_codes`
    target_codes: Ints  # (M,) items of target events, ordered as the events
    asked_days: npt.NDArray[np.float64]  # (Q,) when the first answer came, in days
    gap_days: npt.NDArray[np.float64]  # (Q,) from the question's event to the first answer
    occasions: Ints  # (Q,) of the first answer, see models.occasions.occasions_of


@dataclass(frozen=True, slots=True, eq=False)
class WindowBatch:
    """B windows padded to T events, their Q questions and up to A answers each."""

    codes: Tensor  # (B, T)
    kinds: Tensor  # (B, T)
    days: Tensor  # (B, T)
    valid: Tensor  # (B, T)
    rows: Tensor  # (Q,)
    places: Tensor  # (Q,) -1: before the first event
    gap_days: Tensor  # (Q,)
    occasions: Tensor  # (Q,)
    answers: Tensor  # (Q, A)
    answered: Tensor  # (Q, A)
    shown: Tensor | None = None  # (B, T) false: the item is hidden, see training/augmentation.py; None: none is

    def asked(self, seen_I: Tensor) -> Tensor:
        """(Q,) whether any answer is an item that training knows."""
        return (self.answered & seen_I[self.answers]).any(dim=1)

    def every(self, step: int, start: int) -> WindowBatch:
        """The windows start, start + step, … with their questions."""
        windows, mine = slice(start, None, step), self.rows % step == start
        return WindowBatch(
            self.codes[windows], self.kinds[windows], self.days[windows], self.valid[windows],
            self.rows[mine] // step, self.places[mine], self.gap_days[mine], self.occasions[mine],
            self.answers[mine], self.answered[mine], None if self.shown is None else self.shown[windows],
        )  # fmt: skip

    def over(self, codes_N: Tensor) -> WindowBatch:
        """The same batch with items as places in `codes_N` (ascending), which holds them all."""
        return replace(self, codes=torch.searchsorted(codes_N, self.codes), answers=torch.searchsorted(codes_N, self.answers))

    def to(self, device: torch.device) -> WindowBatch:
        """The same batch on a device."""
        tensors = {name: getattr(self, name) for name in self.__slots__}
        return WindowBatch(**{name: tensor.to(device) for name, tensor in tensors.items() if tensor is not None})


def make_sequences(known: Interactions, max_length: int) -> Sequences:
    """Windows and questions of what was known; `known` is ordered by time."""
    order = np.argsort(known.users, kind="stable")
    users, codes = known.users[order], known.items[order]
    surfaces = known.surfaces[order]
    kinds = kinds_of(known.types[order], known.quantities[order], known.prices[order], surfaces, known.countries[order])
    origin = int(known.times_us.min(initial=0))
    days = (known.times_us[order] - origin) / MICROSECONDS_PER_DAY
    target = known.is_target[order]
    target_before = np.concatenate([[0], np.cumsum(target)])
    starts = np.flatnonzero(np.r_[True, users[1:] != users[:-1]]) if len(users) else np.zeros(0, np.int64)
    windows: list[tuple[int, int]] = []
    asked: list[tuple[int, int, int, int]] = []  # event, window, first answer, last answer + 1
    for begin, end in zip(starts, np.r_[starts[1:], len(users)], strict=True):
        _ask(int(begin), int(end), days, target_before, max_length, windows, asked)
    table = np.array(asked, np.int64).reshape(-1, 4)
    target_events = np.flatnonzero(target)
    first = target_events[table[:, 2]]
    asked_days = days[first]
    before = table[:, 0] >= 0
    gaps = np.where(before, asked_days - days[np.maximum(table[:, 0], 0)], 365.0)
    return Sequences(
        codes, kinds, days, target, np.array(windows, np.int64).reshape(-1, 2),
        table[:, 0], table[:, 1], table[:, 2:], codes[target_events], asked_days, gaps,
        occasions_of(known.times_us[order[first]], surfaces[first]),
    )  # fmt: skip


def _ask(
    begin: int,
    end: int,
    days: npt.NDArray[np.float64],
    target_before: Ints,
    length: int,
    windows: list[tuple[int, int]],
    asked: list[tuple[int, int, int, int]],
) -> None:
    """Append one shopper's windows and questions: every moment is asked once, in the window that shows most before it."""
    own = days[begin:end]
    lasts = np.flatnonzero(np.r_[own[1:] != own[:-1], True]) + begin  # last event of each moment
    nexts = target_before[np.r_[begin, lasts + 1]]  # first answer, as a rank among target events
    total = target_before[end]
    events = np.r_[-1, lasts]
    keep = nexts < total
    events, nexts = events[keep], nexts[keep]
    if not len(events):
        return
    own_targets = days[begin:end][np.diff(target_before[begin : end + 1]) > 0]
    base = target_before[begin]
    first_day = own_targets[nexts - base]
    stops = base + np.searchsorted(own_targets, first_day + HORIZON_DAYS, side="left")
    stride = max(length // SPLIT, 1)
    offset = np.where(events < begin, 0, np.maximum(events - begin + 1 - length, 0))
    slot = -(-offset // stride)  # the earliest window that still holds the event
    for number in np.unique(slot):
        window = len(windows)
        inside = slot == number
        last = int(max(events[inside].max(), begin))
        first = begin + int(number) * stride
        windows.append((first, min(first + length, last + 1)))
        asked += [
            (int(e), window, int(a), int(b)) for e, a, b in zip(events[inside], nexts[inside], stops[inside], strict=True)
        ]


def batches(sequences: Sequences, questions: Ints, size: int, tokens: int, rng: np.random.Generator) -> Iterator[WindowBatch]:
    """One pass over the windows that hold the chosen questions, shuffled; windows of one length together.

    So little is padded. A batch holds at most `size` windows and `tokens` events, padding included (or one longer window).
    """
    if not len(questions):
        return
    chosen = rng.permutation(questions)
    chosen = chosen[np.argsort(sequences.question_window[chosen], kind="stable")]
    window_of = sequences.question_window[chosen]
    rank = np.arange(len(chosen)) - np.searchsorted(window_of, window_of)
    chosen = chosen[rank < QUESTIONS]
    window_of = sequences.question_window[chosen]
    windows = np.unique(window_of)
    lengths = sequences.windows[windows, 1] - sequences.windows[windows, 0]
    by_length = np.lexsort((rng.random(len(windows)), lengths))
    groups = _groups(lengths[by_length], size, tokens)
    for number in rng.permutation(len(groups)):
        begin, end = groups[number]
        yield _collate(sequences, windows[by_length[begin:end]], chosen, window_of, rng)


def _groups(lengths: Ints, size: int, tokens: int) -> list[tuple[int, int]]:
    """Ranges of ascending lengths, as long as `size` and `tokens` allow; of one length where that fills half of it."""
    found: list[tuple[int, int]] = []
    begin = 0
    while begin < len(lengths):
        end = begin + min(size, max(tokens // max(int(lengths[begin]), 1), 1))
        end = min(end, len(lengths))
        same = int(np.searchsorted(lengths, lengths[begin], side="right"))
        if same < end:
            while end > begin + 1 and int(lengths[end - 1]) * (end - begin) > tokens:
                end -= 1
            if same - begin >= (end - begin) / 2:
                end = same
        found.append((begin, end))
        begin = end
    return found


def _collate(s: Sequences, windows: Ints, chosen: Ints, window_of: Ints, rng: np.random.Generator) -> WindowBatch:
    first, last = s.windows[windows, 0], s.windows[windows, 1]
    lengths = last - first
    places = np.arange(int(lengths.max()))[None, :]
    valid = places < lengths[:, None]
    index = np.where(valid, first[:, None] + places, first[:, None])
    days = np.where(valid, s.days[index] - s.days[last - 1][:, None], 0.0)
    lo, hi = np.searchsorted(window_of, windows), np.searchsorted(window_of, windows, side="right")
    rows = np.repeat(np.arange(len(windows)), hi - lo)
    question = np.concatenate([chosen[a:b] for a, b in zip(lo, hi, strict=True)])
    at = np.where(s.question_at[question] >= 0, s.question_at[question] - first[rows], -1)
    begin, end = s.answers[question].T
    count = end - begin
    width = int(min(count.max(initial=1), ANSWERS))
    slots = np.arange(width)[None, :]
    sampled = (rng.random((len(question), width)) * count[:, None]).astype(np.int64)
    picks = np.where(count[:, None] > ANSWERS, sampled, slots)
    answered = slots < np.minimum(count, ANSWERS)[:, None]
    answers = s.target_codes[np.where(answered, begin[:, None] + picks, begin[:, None])]
    as_tensor = torch.from_numpy
    return WindowBatch(
        as_tensor(s.codes[index]), as_tensor(s.kinds[index]), as_tensor(days.astype(np.float32)), as_tensor(valid),
        as_tensor(rows), as_tensor(at), as_tensor(s.gap_days[question].astype(np.float32)),
        as_tensor(s.occasions[question]), as_tensor(answers), as_tensor(answered),
    )  # fmt: skip
