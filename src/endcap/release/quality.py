"""Is the candidate better, or not worse, on real purchases that no model has seen? By paired bootstrap over shoppers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from endcap.contracts import CheckResult
from endcap.evaluation.baselines import BASELINES, OWN_COUNTS
from endcap.evaluation.protocol import HEAVY_EVENTS
from endcap.evaluation.significance import paired_bootstrap
from endcap.release.scorecard import Comparison, Gate

if TYPE_CHECKING:
    import pandas as pd

    from endcap.sections import Evaluate, Gates

CANDIDATE, CHAMPION = "candidate", "champion"
COLUMNS = ("model", "user_id", "took_new_item", "history_events", "country", "top")  # of the frame, besides the metrics
_NAMES = {"ndcg": "NDCG", "recall": "Recall"}


def metric_columns(k: int) -> list[str]:
    """NDCG and Recall at k, over all items and over those new to the shopper."""
    return [f"{metric}_at_{k}{tail}" for metric in _NAMES for tail in ("", "_new")]


def champion_gates(frame: pd.DataFrame, gates: Gates, evaluate: Evaluate) -> list[Gate]:
    """Not worse than the champion beyond the margin, by NDCG and by Recall at k."""
    if CHAMPION not in set(frame["model"]):
        return []
    why = "The model that serves now is only replaced by one that is at least as good for shoppers."
    return [
        _not_worse(
            frame, CHAMPION, f"{metric}_at_{evaluate.k}", f"{label}@{evaluate.k} against the champion", gates, evaluate, why
        )
        for metric, label in _NAMES.items()
    ]


def baseline_gates(frame: pd.DataFrame, gates: Gates, evaluate: Evaluate) -> list[Gate]:
    """Not worse than each simple counter beyond the margin."""
    why = "A model that loses to a simple counter is not worth its upkeep."
    return [
        _not_worse(frame, name, f"ndcg_at_{evaluate.k}", f"NDCG@{evaluate.k} against {name}", gates, evaluate, why)
        for name in BASELINES
    ]


def slice_gates(frame: pd.DataFrame, gates: Gates, evaluate: Evaluate) -> list[Gate]:
    """No group of shoppers or items pays for the average: none may be proved worse than the reference beyond the margin.

    The reference is the champion, else (the first model) own purchase counts. A slice with fewer than `slice_min_users`
    shoppers cannot prove anything: it is shown as a warning, never hidden.
    """
    reference = CHAMPION if CHAMPION in set(frame["model"]) else OWN_COUNTS
    ndcg = f"ndcg_at_{evaluate.k}"
    found = []
    for name, (users, metric) in slices(frame, ndcg, gates.slice_min_users).items():
        part = frame[frame["user_id"].isin(users)]
        found.append(_slice_gate(part, reference, metric, name, gates, evaluate))
    return found


def slices(frame: pd.DataFrame, ndcg: str, min_users: int) -> dict[str, tuple[set[str], str]]:
    """Slice name → its shoppers and the metric it is judged by. Countries with few shoppers are taken together."""
    ours = frame[frame["model"] == CANDIDATE]
    everyone = set(ours["user_id"])

    def of(mask: pd.Series[bool]) -> set[str]:
        return set(ours.loc[mask, "user_id"])

    events = ours["history_events"]
    cut = {
        "items new to the shopper": (everyone, f"{ndcg}_new"),
        "items new to the shop": (of(ours["took_new_item"]), ndcg),
        "new shoppers": (of(events == 0), ndcg),
        "light shoppers": (of((events > 0) & (events < HEAVY_EVENTS)), ndcg),
        "heavy shoppers": (of(events >= HEAVY_EVENTS), ndcg),
    }
    known = ours.loc[ours["country"] != "", "country"]
    sizes = known.value_counts()
    large = [str(country) for country in sizes.index[sizes >= min_users]]
    cut |= {f"country: {country}": (of(ours["country"] == country), ndcg) for country in sorted(large)}
    if len(large) < len(sizes):
        cut["country: all others"] = (of((ours["country"] != "") & ~ours["country"].isin(large)), ndcg)
    return cut


def _pairs(frame: pd.DataFrame, reference: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """The metric of the candidate and of the reference over the same shoppers; (U,) each, shoppers without a value left out."""
    table = frame[frame["model"].isin([CANDIDATE, reference])].pivot(index="user_id", columns="model", values=metric).dropna()
    if CANDIDATE not in table or reference not in table:
        return np.zeros(0), np.zeros(0)
    return table[CANDIDATE].to_numpy(np.float64), table[reference].to_numpy(np.float64)


def _not_worse(frame: pd.DataFrame, reference: str, metric: str, name: str, gates: Gates, evaluate: Evaluate, why: str) -> Gate:
    ours, theirs = _pairs(frame, reference, metric)
    if not len(ours):
        result = CheckResult(
            name, passed=False, blocking=True, observed="no shopper to compare", expected="shoppers in the holdout"
        )
        return Gate("Quality", result, why)
    margin = gates.margin_vs_champion if reference == CHAMPION else gates.margin_vs_baselines
    comparison = _compare(ours, theirs, reference, metric, margin, gates, evaluate)
    low = comparison.difference.low
    result = CheckResult(
        name,
        passed=low >= comparison.allowed,
        blocking=True,
        observed=f"{comparison.ours:.4f} against {comparison.theirs:.4f}; difference at least {low:+.4f}",
        expected=f"at least {comparison.allowed:+.4f} ({margin:.0%} of the reference), {gates.confidence:.0%} confident",
    )
    return Gate("Quality", result, why, comparison)


def _slice_gate(part: pd.DataFrame, reference: str, metric: str, name: str, gates: Gates, evaluate: Evaluate) -> Gate:
    why = f"Compared with {reference}: a better average must not hide a group that is served worse."
    ours, theirs = _pairs(part, reference, metric)
    expected = f"not proved worse than {reference} by more than {gates.slice_margin:.0%}"
    if len(ours) < gates.slice_min_users:
        observed = f"{len(ours)} shoppers, too few to judge (at least {gates.slice_min_users})"
        return Gate("Slices", CheckResult(name, passed=False, blocking=False, observed=observed, expected=expected), why)
    comparison = _compare(ours, theirs, reference, metric, gates.slice_margin, gates, evaluate)
    high = comparison.difference.high
    result = CheckResult(
        name,
        passed=high >= comparison.allowed,
        blocking=True,
        observed=f"{comparison.ours:.4f} against {comparison.theirs:.4f} ({len(ours)} shoppers); at most {high:+.4f}",
        expected=f"{expected}: at most {comparison.allowed:+.4f}",
    )
    return Gate("Slices", result, why, comparison)


def _compare(
    ours: np.ndarray, theirs: np.ndarray, reference: str, metric: str, margin: float, gates: Gates, evaluate: Evaluate
) -> Comparison:
    """Each bound of the interval alone holds with `gates.confidence` (one-sided), so the interval itself has 1 - 2 (1 - c)."""
    two_sided = 1 - 2 * (1 - gates.confidence)
    difference = paired_bootstrap(ours, theirs, evaluate.bootstrap_samples, two_sided, evaluate.seed)
    mean = float(theirs.mean())
    return Comparison(reference, metric, float(ours.mean()), mean, difference, allowed=0.0 - margin * mean)
