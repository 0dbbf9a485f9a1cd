"""implicit's ALS and item-kNN (https://github.com/benfred/implicit), and popularity: a small grid each, chosen on validation.

Runs in .venv-peers: `python -m benchmarks.peers.implicit_models JOB.json`.
"""

from __future__ import annotations

import importlib.metadata
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import BM25Recommender, CosineRecommender
from scipy import sparse
from threadpoolctl import threadpool_limits

from benchmarks.peers.exchange import (
    Histories,
    Ints,
    Job,
    Material,
    best_unseen,
    judge_slates,
    read_job,
    read_material,
    write_json,
)
from benchmarks.peers.watching import CHOSEN_BY, Memory, sample

RANKED_AT_ONCE = 512
Ranking = Callable[[sparse.csr_matrix], npt.NDArray[np.float32]]
GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "popularity": {},
    "implicit-als": {"factors": (64, 128), "regularization": (0.01, 0.1), "alpha": (1.0, 10.0)},
    "implicit-cosine": {"K": (20, 100, 500)},
    "implicit-bm25": {"K": (20, 100, 500), "K1": (0.5, 1.2), "B": (0.0, 0.5)},
}


def as_matrix(histories: Histories, items: int) -> sparse.csr_matrix:
    """(U, I) how often each user took each item."""
    ones = np.ones(len(histories.items), np.float32)
    matrix = sparse.csr_matrix(
        (ones, histories.items.astype(np.int32), histories.starts.astype(np.int32)), (len(histories), items)
    )
    matrix.sum_duplicates()
    return matrix


def fit(name: str, chosen: dict[str, Any], taken: sparse.csr_matrix, job: Job) -> Ranking:
    """What scores (B, I) items for B rows of taken items."""
    if name == "popularity":
        counts = np.asarray(taken.sum(axis=0), np.float32)
        return lambda rows: np.repeat(counts, rows.shape[0], axis=0)
    if name == "implicit-als":
        model = AlternatingLeastSquares(**chosen, iterations=15, num_threads=job.threads, random_state=job.seed)
        model.fit(taken, show_progress=False)
        return lambda rows: _folded_in(model, rows)
    kind = CosineRecommender if name == "implicit-cosine" else BM25Recommender
    neighbours = kind(**chosen, num_threads=job.threads)
    neighbours.fit(taken, show_progress=False)
    return lambda rows: np.asarray((rows @ neighbours.similarity).todense(), np.float32)


def _folded_in(model: AlternatingLeastSquares, rows: sparse.csr_matrix) -> npt.NDArray[np.float32]:
    """Users by what they took up to now: the test's history holds one item more than training did."""
    users = model.recalculate_user(np.arange(rows.shape[0]), rows)
    return np.asarray(users @ model.item_factors.T, np.float32)


def rank(score: Ranking, histories: Histories, items: int) -> Ints:
    """(U, K) the best unseen items."""
    slates = []
    for begin in range(0, len(histories), RANKED_AT_ONCE):
        part = histories.part(np.arange(begin, min(begin + RANKED_AT_ONCE, len(histories))))
        slates.append(best_unseen(score(as_matrix(part, items)), part))
    return np.concatenate(slates)


def run(job: Job, material: Material) -> dict[str, Any]:
    """Fit every point of the grid, rank the test with the best one."""
    taken = as_matrix(material.train, material.items)
    memory, tried, best = Memory(), [], None
    grid, asked = GRIDS[job.model], sample(material.validation, job.validation_users)
    for values in product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        began = time.perf_counter()
        memory.resume()
        score = fit(job.model, chosen, taken, job)
        memory.pause()
        spent = time.perf_counter() - began
        slates = rank(score, asked.histories, material.items)
        value = float(judge_slates(slates, asked)[CHOSEN_BY].mean())
        print(f"{job.model} {chosen} {spent:.1f} s validation {CHOSEN_BY} {value:.4f}", flush=True)
        tried.append({**chosen, "seconds": round(spent, 3), "validation": value})
        if best is None or value > best[0]:
            best = (value, spent, chosen, score)
    assert best is not None
    value, spent, chosen, score = best
    np.save(Path(job.out) / "slates.npy", rank(score, material.test, material.items))
    total = round(sum(one["seconds"] for one in tried), 3)
    return {
        "train_seconds": round(spent, 3), "seconds_to_best": round(spent, 3), "grid_seconds": total, "validation": value,
        "chosen": chosen, "tried": tried, "mark_seconds": job.mark_seconds,
        **memory.facts(),
    }  # fmt: skip


def main() -> None:
    job = read_job(Path(sys.argv[1]))
    with threadpool_limits(1, "blas"):  # implicit's own threads do the work; BLAS threads inside them are harmful
        facts = run(job, read_material(Path(job.split)))
    versions = {name: importlib.metadata.version(name) for name in ("implicit", "numpy", "scipy")}
    write_json(Path(job.out) / "facts.json", facts | {"versions": versions})


if __name__ == "__main__":
    main()
