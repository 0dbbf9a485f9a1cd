"""The files between the driver and a contestant: the split, one job, what came of it.

Importable in both environments. Shapes: U users, I items, E events, K places of a slate. Items are codes 0..I-1.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from endcap.data.atomic_write import write_atomically
from endcap.errors import InputError
from endcap.evaluation.metrics import ndcg_at_k, recall_at_k, top_k

Ints = npt.NDArray[np.int64]
PLACES = 20  # length of a slate
CUTS = (5, 10, 20)
ACTION = "Mend how this contestant ranks."


@dataclass(frozen=True, slots=True, eq=False)
class Histories:
    """What each of U users did so far, oldest first, flat: user u has `items[starts[u]:starts[u + 1]]`."""

    starts: Ints  # (U + 1,)
    items: Ints  # (E,)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, user: int) -> Ints:
        """One user's items."""
        return self.items[self.starts[user] : self.starts[user + 1]]

    def part(self, users: Ints) -> Histories:
        """Some of the users, in that order."""
        lengths = np.diff(self.starts)[users]
        items = [self.of(int(user)) for user in users]
        return Histories(np.r_[0, np.cumsum(lengths)], np.concatenate(items) if items else self.items[:0])


@dataclass(frozen=True, slots=True, eq=False)
class Cases:
    """Histories and the one item that each user took next."""

    histories: Histories
    wanted: Ints  # (U,)

    def part(self, users: Ints) -> Cases:
        """Some of the users."""
        return Cases(self.histories.part(users), self.wanted[users])


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What a contestant is given: what to learn, what to choose by, whom to rank for. The answers of the test stay behind."""

    items: int
    train: Histories
    validation: Cases
    test: Histories


@dataclass(frozen=True, slots=True)
class Job:
    """What one contestant shall do. Fields that a model has no use for are ignored by it."""

    model: str
    mode: str  # quality | throughput
    split: str  # folder
    out: str  # folder
    dim: int = 64
    max_length: int = 50
    batch_size: int = 128
    negatives: int = 256
    learning_rate: float = 0.001
    dropout: float = 0.2
    epochs: int = 200  # at most
    patience: int = 10  # epochs without a better NDCG@10 on validation
    max_seconds: float = 900.0  # of training
    mark_seconds: float = 300.0  # what is best by then is ranked too
    epoch_batches: int = 0  # throughput of a slow peer: batches an epoch; 0: all of them
    validation_users: int = 4000
    threads: int = 2
    seed: int = 1
    settings: dict[str, Any] = field(default_factory=dict)  # how, never what: workers, precision

    def digest(self, *more: str) -> str:
        """What the result depends on, folders left out."""
        facts = {name: value for name, value in asdict(self).items() if name not in ("split", "out")}
        return hashlib.sha256(json.dumps([facts, *more], sort_keys=True).encode()).hexdigest()[:16]


def write_split(folder: Path, items: int, train: Histories, validation: Cases, test: Cases, facts: dict[str, Any]) -> None:
    """Write a split; `split.json` comes last and marks it whole."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "train.npz", items=items, starts=train.starts, codes=train.items)
    for name, cases in (("validation", validation), ("test", test)):
        np.savez(folder / f"{name}.npz", starts=cases.histories.starts, codes=cases.histories.items)
        np.save(folder / f"{name}_wanted.npy", cases.wanted)
    write_json(folder / "split.json", facts)


def read_material(folder: Path) -> Material:
    """What a contestant may see of a split."""
    train = np.load(folder / "train.npz")
    validation, test = _histories(folder / "validation.npz"), _histories(folder / "test.npz")
    wanted = np.load(folder / "validation_wanted.npy")
    return Material(int(train["items"]), Histories(train["starts"], train["codes"]), Cases(validation, wanted), test)


def read_test(folder: Path) -> Cases:
    """The test with its answers: for the judge alone."""
    return Cases(_histories(folder / "test.npz"), np.load(folder / "test_wanted.npy"))


def read_job(path: Path) -> Job:
    """The job that the driver wrote."""
    return Job(**json.loads(path.read_text(encoding="utf-8")))


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all."""
    write_atomically(path, json.dumps(value, indent=2) + "\n")


def judge_slates(slates: Ints, cases: Cases) -> dict[str, npt.NDArray[np.float64]]:
    """(U,) recall@k and ndcg@k of each user. `slates` (U, K): codes, best first, -1 where there is nothing to show.

    Raises:
        InputError: a slate shows an item twice, or one that the user had, or there is not one slate a user.
    """
    check_slates(slates, cases.histories)
    one = np.ones(len(slates), np.int64)
    hits = slates == cases.wanted[:, None]
    values = {f"recall@{k}": recall_at_k(hits[:, :k], one, k) for k in CUTS}
    return values | {f"ndcg@{k}": ndcg_at_k(hits[:, :k], one, k) for k in CUTS}


def check_slates(slates: Ints, histories: Histories) -> None:
    """See judge_slates."""
    if len(slates) != len(histories):
        raise InputError("not one slate a user", field="slates", value=(len(slates), len(histories)), action=ACTION)
    shown = np.sort(slates, axis=1)
    if ((shown[:, 1:] == shown[:, :-1]) & (shown[:, 1:] >= 0)).any():
        raise InputError("a slate shows an item twice", field="slates", action=ACTION)
    base = int(max(slates.max(initial=0), histories.items.max(initial=0))) + 1
    owners = np.repeat(np.arange(len(histories)), np.diff(histories.starts))
    keys = np.arange(len(slates))[:, None] * base + slates
    if (np.isin(keys, owners * base + histories.items) & (slates >= 0)).any():
        raise InputError("a slate shows an item that the user had", field="slates", action=ACTION)


def best_unseen(scores_BI: npt.NDArray[np.float32], histories: Histories) -> Ints:
    """(B, K) the best items without what the users had, ties by the lower code; -1 where the score is not finite."""
    scores = scores_BI.copy()
    scores[np.repeat(np.arange(len(histories)), np.diff(histories.starts)), histories.items] = -np.inf
    codes = top_k(scores, PLACES)
    return np.where(np.isfinite(np.take_along_axis(scores, codes, axis=1)), codes, -1).astype(np.int64)


def _histories(path: Path) -> Histories:
    held = np.load(path)
    return Histories(held["starts"], held["codes"])
