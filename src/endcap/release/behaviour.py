"""Does the candidate behave like a recommender, and within the shop's budgets? One question, one gate."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from endcap.contracts import CheckResult
from endcap.evaluation.metrics import top_k
from endcap.models.history import History
from endcap.release.scorecard import Gate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from endcap.models.history import Floats, Scorer

SAMPLE = 64  # shoppers that the behavioural gates look at
ROUNDS, REQUESTS = 4, 40
MIN_REORDERED = 0.5


class Parted(Protocol):
    """A model that says what its transformer alone adds to the scores, as the part `sequence`."""

    def score_parts(self, histories: Sequence[History], now: datetime) -> dict[str, Floats]: ...


class Guarded:
    """A scorer whose NaN and infinite scores are counted and sink to the bottom, so that a broken model is judged."""

    def __init__(self, model: Scorer) -> None:
        self._model = model
        self.item_ids = model.item_ids
        self.bad = self.seen = 0

    def score(self, histories: Sequence[History], now: datetime) -> Floats:
        scores = self._model.score(histories, now)
        finite = np.isfinite(scores)
        self.seen += scores.size
        self.bad += int(scores.size - finite.sum())
        return np.where(finite, scores, np.float32(-1e30))


def sample_histories(histories: Sequence[History]) -> list[History]:
    """At most SAMPLE histories, spread evenly over the shoppers."""
    step = max(len(histories) // SAMPLE, 1)
    return list(histories[::step][:SAMPLE])


def existing_items(model: Scorer, histories: Sequence[History], catalog: set[str], now: datetime, k: int) -> Gate:
    """Whatever the model would show, unfiltered, must be in the catalogue."""
    items = np.asarray(model.item_ids, object)
    shown = {str(item) for item in items[top_k(model.score([*histories, History.empty()], now), k)].ravel()}
    unknown = sorted(shown - catalog)
    return _gate(
        "recommended items exist",
        not unknown,
        f"{len(unknown)} of {len(shown)} items not in the catalogue" + (f": {', '.join(unknown[:5])}" if unknown else ""),
        "every recommended item is in the catalogue",
        "A shopper must never be shown what the shop does not have.",
    )


def finite_scores(model: Guarded) -> Gate:
    """No NaN or infinity in any score that the model has given so far."""
    return _gate(
        "scores are finite",
        model.bad == 0,
        f"{model.bad} of {model.seen} scores not finite",
        "no NaN or infinity",
        "A NaN makes the order of a slate arbitrary.",
    )


def order_matters(model: Parted, histories: Sequence[History], now: datetime) -> Gate:
    """The same purchases in the opposite order must change what the transformer says: it reads the sequence, not only the set.

    The whole score would change anyway, since the counters know when each item was bought.
    """
    able = [history for history in histories if len(set(history.item_ids)) > 1 and len(set(history.times)) > 1]
    turned = [replace(history.part(slice(None, None, -1)), times=history.times) for history in able]
    changed = 0
    if able:
        before, after = (np.nan_to_num(model.score_parts(some, now)["sequence"]) for some in (able, turned))
        scale = np.abs(before).max(axis=1) + 1e-9
        changed = int((np.abs(before - after).max(axis=1) / scale > 1e-4).sum())
    share = changed / max(len(able), 1)
    return _gate(
        "history order matters",
        share >= MIN_REORDERED,
        f"the transformer's scores change for {changed} of {len(able)} shoppers when their history is turned round",
        f"at least {MIN_REORDERED:.0%} of them",
        "What a shopper did last says more than what they did first.",
    )


def unknown_shopper(model: Scorer, now: datetime, k: int) -> Gate:
    """No history, and a history of items nobody knows: both get k distinct items in a meaningful order."""
    stranger = History(["no-such-item"], [now], "purchase", 1.0)
    scores = model.score([History.empty(), stranger], now)
    wanted = min(k, len(model.item_ids))
    ranked = bool((scores.max(axis=1) > scores.min(axis=1)).all())
    items = min(len(set(row)) for row in top_k(scores, k).tolist())
    return _gate(
        "an unknown shopper gets an answer",
        ranked and items == wanted,
        f"{items} distinct items, {'ranked' if ranked else 'all scored alike'}",
        f"{wanted} distinct items, ranked",
        "Every new shopper starts without a history.",
    )


def coverage(slates: Sequence[Sequence[str]], catalog: set[str], minimum: float) -> Gate:
    """Share of the catalogue that appears in somebody's top k."""
    shown = {item for slate in slates for item in slate} & catalog
    share = len(shown) / max(len(catalog), 1)
    return _gate(
        "coverage",
        share >= minimum,
        f"{share:.1%} of the catalogue ({len(shown)} of {len(catalog)} items) is in somebody's list",
        f"at least {minimum:.1%}",
        "A shop that only shows its bestsellers starves the rest of its shelves.",
        group="Budgets",
    )


def latency(model: Scorer, histories: Sequence[History], now: datetime, k: int, max_ms: float) -> Gate:
    """The 95th percentile over requests of the time to score and pick the best k, one at a time, in process.

    Each request is timed a few times and its best time counts: what else this machine does says nothing of the model.
    """
    requests = list(histories[:REQUESTS]) or [History.empty()]
    best_ms = np.full(len(requests), np.inf)
    with _one_thread():
        for _ in range(ROUNDS):
            for place, history in enumerate(requests):
                begin = time.perf_counter()
                top_k(model.score([history], now), k)
                best_ms[place] = min(best_ms[place], (time.perf_counter() - begin) * 1000)
    p95 = float(np.percentile(best_ms, 95))
    return _gate(
        "latency",
        p95 <= max_ms,
        f"p95 {p95:.1f} ms a request",
        f"at most {max_ms:g} ms",
        "A slow shelf is an empty shelf.",
        group="Budgets",
    )


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One request has one thread: two that share busy cores wait for each other many times longer than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def size(model_dir: Path, max_mb: float) -> Gate:
    """Bytes of the model directory."""
    mb = sum(path.stat().st_size for path in model_dir.rglob("*") if path.is_file()) / 1e6
    return _gate(
        "size", mb <= max_mb, f"{mb:.1f} MB", f"at most {max_mb:g} MB", "Every server holds a copy in memory.", group="Budgets"
    )


def _gate(name: str, passed: bool, observed: str, expected: str, why: str, group: str = "Behaviour") -> Gate:
    return Gate(group, CheckResult(name, passed=bool(passed), blocking=True, observed=observed, expected=expected), why)
