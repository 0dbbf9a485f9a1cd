"""The gates that a candidate passes before a person may approve it. `judge` asks all; nothing here writes or connects."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd
import pyarrow.parquet as pq

from endcap.contracts import CheckResult
from endcap.data.features import as_frame, interactions_from_events
from endcap.data.partitions import read_events
from endcap.evaluation.protocol import Period, listed_items, make_period, score_period
from endcap.models.blend import BlendedRecommender
from endcap.models.collaborative import ItemKnn
from endcap.models.popularity import Popularity
from endcap.models.repeats import OwnCounts
from endcap.release import behaviour, quality, servability
from endcap.release.package import MODEL_PATH
from endcap.release.scorecard import Gate, Scorecard

if TYPE_CHECKING:
    from collections.abc import Callable

    from endcap.config import Evaluate, Gates
    from endcap.data.features import Interactions
    from endcap.models.history import Scorer


class Baseline(Protocol):
    """A counter that is fitted to what was known at a moment."""

    def fit(self, interactions: Interactions, as_of: datetime) -> Scorer: ...


@dataclass(frozen=True, slots=True)
class Exam:
    """What a candidate is judged on. `package` is the registered pyfunc, `dataset` a checked-out dataset version."""

    package: Path
    champion: Path | None  # model directory of the champion; None: there is none yet
    dataset: Path
    dataset_version: str  # the one that the candidate says it was trained on
    holdout_days: int
    recent_days: int


def judge(exam: Exam, gates: Gates, evaluate: Evaluate) -> Scorecard:
    """Ask every gate of `exam`; the holdout is the newest `holdout_days` of the dataset, which training never sees.

    Raises:
        OSError: the dataset or a model cannot be read.
    """
    began = time.monotonic()
    clean_process = servability.start(exam.package, evaluate.k)
    model_dir = exam.package / MODEL_PATH
    card = json.loads((exam.dataset / "dataset.json").read_text(encoding="utf-8"))
    end = datetime.fromisoformat(str(card["interval_end"]))
    start = end - timedelta(days=exam.holdout_days)
    found, frame, alone = _ask_model(model_dir, exam, start, end, gates, evaluate)
    found += [
        behaviour.size(model_dir, gates.max_size_mb),
        servability.no_pickle(exam.package),
        servability.answer(clean_process, exam.package, evaluate.k),
        dataset_validated(card, exam.dataset_version),
        *alone(),  # timed last, when the clean process no longer takes its share of the processor
    ]
    details = {
        "holdout_start": start.isoformat(),
        "holdout_end": end.isoformat(),
        "k": evaluate.k,
        "shoppers": int(frame["user_id"].nunique()),
        "dataset": card,
        "seconds": round(time.monotonic() - began, 1),
    }
    return Scorecard(found, _means(frame, evaluate.k), details)


def _ask_model(
    model_dir: Path, exam: Exam, start: datetime, end: datetime, gates: Gates, evaluate: Evaluate
) -> tuple[list[Gate], pd.DataFrame, Callable[[], list[Gate]]]:
    """The gates that need the model in this process, the frame of the ranked holdout, and the gates to ask undisturbed."""
    try:
        config = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
        model = behaviour.Guarded(BlendedRecommender.load(model_dir))
    except Exception as error:  # noqa: BLE001 - whatever is wrong with a candidate's files, the answer is a refusal, not a crash
        return [_loads(error)], pd.DataFrame({"model": [], "user_id": []}), list
    events = as_frame(read_events(exam.dataset))
    catalog = as_frame(pq.read_table(exam.dataset / "catalog.parquet"))
    period = make_period(events, start, end)
    frame = _ranked(model, exam, events, period, listed_items(catalog, start), evaluate.k)
    listed = listed_items(catalog, end) or set()
    histories = behaviour.sample_histories(period.histories)
    ours = frame[frame["model"] == quality.CANDIDATE]
    found = [
        enough_shoppers(len(period.user_ids), gates.slice_min_users),
        *quality.champion_gates(frame, gates, evaluate),
        *quality.baseline_gates(frame, gates, evaluate),
        *quality.slice_gates(frame, gates, evaluate),
        behaviour.existing_items(model, histories, listed, start, evaluate.k),
        behaviour.order_matters(model, histories, start),
        behaviour.unknown_shopper(model, start, evaluate.k),
        behaviour.coverage(list(ours["top"]), listed, gates.min_coverage),
        behaviour.finite_scores(model),
        holdout_unseen(config, start),
    ]
    return found, frame, lambda: [behaviour.latency(model, histories, start, evaluate.k, gates.max_latency_ms)]


def enough_shoppers(shoppers: int, minimum: int) -> Gate:
    """Without enough shoppers in the holdout nothing is proved."""
    result = CheckResult(
        "enough shoppers",
        passed=shoppers >= minimum,
        blocking=True,
        observed=f"{shoppers} in the holdout",
        expected=f"at least {minimum}",
    )
    return Gate("Data", result, "A few shoppers prove nothing.")


def dataset_validated(card: dict[str, Any], expected_version: str) -> Gate:
    """The dataset version passed its blocking expectations, and is the one that the candidate names."""
    passed = card.get("validation", {}).get("passed") is True
    version = str(card.get("version"))
    observed = f"{version}: {'validated' if passed else 'no passed validation on its card'}"
    result = CheckResult(
        "dataset validated",
        passed=passed and version == expected_version,
        blocking=True,
        observed=observed,
        expected=f"{expected_version}: validated",
    )
    return Gate("Data", result, "A model is only as sound as the data it learnt from.")


def holdout_unseen(config: dict[str, Any], start: datetime) -> Gate:
    """The candidate learnt nothing from the days it is judged on."""
    text = str(config.get("trained_until", ""))
    until = datetime.fromisoformat(text) if text else None
    if until is not None and until.tzinfo is None:
        until = until.replace(tzinfo=start.tzinfo)
    result = CheckResult(
        "holdout unseen in training",
        passed=until is not None and until <= start,
        blocking=True,
        observed=f"trained until {until:%Y-%m-%d %H:%M}" if until else "the model does not say until when it was trained",
        expected=f"not beyond {start:%Y-%m-%d %H:%M}, where the holdout starts",
    )
    return Gate("Data", result, "A model that has seen the answers proves nothing.")


def _loads(error: Exception) -> Gate:
    observed = f"{type(error).__name__}: {error}"[:300]
    result = CheckResult("the model loads", passed=False, blocking=True, observed=observed, expected="it loads")
    return Gate("Servability", result, "A model that cannot be read cannot serve.")


def _ranked(model: Scorer, exam: Exam, events: pd.DataFrame, period: Period, rankable: set[str] | None, k: int) -> pd.DataFrame:
    """One row a (model, shopper) of the holdout, see evaluation.protocol; `took_new_item`: something never sold before."""
    interactions = interactions_from_events(events)
    scorers: dict[str, Scorer] = {quality.CANDIDATE: model}
    if exam.champion is not None:
        scorers[quality.CHAMPION] = BlendedRecommender.load(exam.champion)
    baselines: tuple[Baseline, ...] = (Popularity(), Popularity(exam.recent_days), ItemKnn(), OwnCounts(exam.recent_days))
    for name, baseline in zip(quality.BASELINES, baselines, strict=True):
        scorers[name] = baseline.fit(interactions, period.start)
    if not period.user_ids:
        return pd.DataFrame(columns=[*quality.COLUMNS, *quality.metric_columns(k)])
    frame = pd.concat([score_period(name, scorer, period, k, rankable) for name, scorer in scorers.items()], ignore_index=True)
    sold = set(interactions.item_ids[interactions.known_at(period.start).targets().items])
    news = {user for user, taken in zip(period.user_ids, period.taken, strict=True) if any(item not in sold for item in taken)}
    frame["took_new_item"] = frame["user_id"].isin(news)
    return frame


def _means(frame: pd.DataFrame, k: int) -> dict[str, dict[str, float]]:
    """Model → metric → mean over the shoppers of the holdout."""
    columns = quality.metric_columns(k)
    if frame.empty:
        return {}
    means = frame.groupby("model", sort=False)[columns].mean()
    return {str(name): {column: round(float(row[column]), 6) for column in columns} for name, row in means.iterrows()}
