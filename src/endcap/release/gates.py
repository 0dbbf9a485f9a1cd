"""The gates that a candidate passes before a person may approve it. `judge` asks all; nothing here writes or connects."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow.parquet as pq

from endcap.contracts import CheckResult
from endcap.data.features import as_frame, interactions_from_events
from endcap.data.partitions import read_events
from endcap.data.splits import split_by_time
from endcap.evaluation.baselines import fit_baselines
from endcap.evaluation.protocol import Period, listed_items, make_period, score_period
from endcap.models.blend import BlendedRecommender
from endcap.models.model_files import load_model
from endcap.release import behaviour, honesty, quality, servability
from endcap.release.package import MODEL_PATH
from endcap.release.scorecard import Gate, Scorecard

if TYPE_CHECKING:
    from collections.abc import Callable

    from endcap.models.history import Scorer
    from endcap.sections import Evaluate, Gates


@dataclass(frozen=True, slots=True)
class Exam:
    """What a candidate is judged on. `package` is the registered pyfunc.

    It is judged on the newest days of `dataset`, also when it learnt from an older version: `learnt_from` is that one's card.
    """

    package: Path
    champion: Path | None  # model directory of the champion; None: there is none yet
    dataset: Path  # the newest dataset version, checked out
    dataset_version: str  # the one that the candidate says it was trained on
    learnt_from: dict[str, Any]
    holdout_days: int
    recent_days: int


def judge(exam: Exam, gates: Gates, evaluate: Evaluate) -> Scorecard:
    """Ask every gate of `exam`; the holdout is the newest part of the dataset, cut as training cuts it.

    Where the champion has learnt from that part, only what lies behind what it knows is compared.

    Raises:
        DatasetError: the dataset has no events.
        OSError: the dataset or the champion cannot be read.
    """
    began = time.monotonic()
    clean_process = servability.start(exam.package, evaluate.k)
    model_dir = exam.package / MODEL_PATH
    card = json.loads((exam.dataset / "dataset.json").read_text(encoding="utf-8"))
    end = datetime.fromisoformat(str(card["interval_end"]))
    events = as_frame(read_events(exam.dataset))
    start = holdout_start(events, end, exam.holdout_days)
    champion = load_model(exam.champion) if exam.champion else None
    unseen = [] if champion is None else [honesty.champion_unseen(champion.config, start, end)]
    if champion is not None:
        start = min(max(start, honesty.trained_until(champion.config) or start), end)
    found, frame, alone = _ask_model(model_dir, exam, champion, events, (start, end), gates, evaluate)
    found += [
        behaviour.size(model_dir, gates.max_size_mb),
        servability.no_pickle(exam.package),
        servability.answer(clean_process, exam.package, evaluate.k),
        *unseen,
        honesty.dataset_validated(exam.learnt_from, exam.dataset_version),
        honesty.dataset_validated(card, str(card.get("version")), "judged dataset validated"),
        *alone(),  # timed last, when the clean process no longer takes its share of the processor
    ]
    details = {
        "holdout_start": start.isoformat(),
        "holdout_end": end.isoformat(),
        "k": evaluate.k,
        "shoppers": int(frame["user_id"].nunique()),
        "dataset": card,
        "behaviour_head": _behaviour_head(model_dir),
        "seconds": round(time.monotonic() - began, 1),
    }
    return Scorecard(found, _means(frame, evaluate.k), details)


def _behaviour_head(model_dir: Path) -> dict[str, Any]:
    """What the candidate says of its behaviour head: figures that the page shows and no gate asks for."""
    try:
        told = json.loads((model_dir / "config.json").read_text(encoding="utf-8")).get("behaviour", {})
    except (OSError, ValueError, AttributeError):
        told = {}  # whether the model loads is a gate of its own
    return told if isinstance(told, dict) and told else {"absent": "the model says nothing of one"}


def holdout_start(events: pd.DataFrame, end: datetime, holdout_days: float) -> datetime:
    """Where the holdout starts: as the stage prepare cuts it, a short history in proportion.

    Raises:
        DatasetError: there is nothing before `end`.
    """
    first = events.loc[events["time"] < pd.Timestamp(end), "time"].min()
    return split_by_time(end if pd.isna(first) else first.to_pydatetime(), end, 0, holdout_days).holdout_start


def _ask_model(
    model_dir: Path,
    exam: Exam,
    champion: BlendedRecommender | None,
    events: pd.DataFrame,
    span: tuple[datetime, datetime],
    gates: Gates,
    evaluate: Evaluate,
) -> tuple[list[Gate], pd.DataFrame, Callable[[], list[Gate]]]:
    """The gates that need the model in this process, the frame of the ranked holdout, and the gates to ask undisturbed."""
    try:
        config = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
        candidate = load_model(model_dir)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with a candidate's files, the answer is a refusal, not a crash
        return [_loads(error)], pd.DataFrame({"model": [], "user_id": []}), list
    model, (start, end) = behaviour.Guarded(candidate), span
    catalog = as_frame(pq.read_table(exam.dataset / "catalog.parquet"))
    period = make_period(events, start, end)
    scorers: dict[str, Scorer] = {quality.CANDIDATE: model}
    if champion is not None:
        scorers[quality.CHAMPION] = champion
    frame = _ranked(scorers, exam.recent_days, events, period, listed_items(catalog, start), evaluate.k)
    listed = listed_items(catalog, end) or set()
    histories = behaviour.sample_histories(period.histories)
    ours = frame[frame["model"] == quality.CANDIDATE]
    found = [
        honesty.enough_shoppers(len(period.user_ids), gates.slice_min_users, start, end),
        *quality.champion_gates(frame, gates, evaluate),
        *quality.baseline_gates(frame, gates, evaluate),
        *quality.slice_gates(frame, gates, evaluate),
        behaviour.existing_items(model, histories, listed, start, evaluate.k),
        behaviour.order_matters(candidate, histories, start),
        behaviour.unknown_shopper(model, start, evaluate.k),
        behaviour.coverage(list(ours["top"]), listed, gates.min_coverage),
        behaviour.finite_scores(model),
        honesty.holdout_unseen(config, start),
    ]
    return found, frame, lambda: [behaviour.latency(model, histories, start, evaluate.k, gates.max_latency_ms)]


def _loads(error: Exception) -> Gate:
    observed = f"{type(error).__name__}: {error}"[:300]
    result = CheckResult("the model loads", passed=False, blocking=True, observed=observed, expected="it loads")
    return Gate("Servability", result, "A model that cannot be read cannot serve.")


def _ranked(
    models: dict[str, Scorer], recent_days: float, events: pd.DataFrame, period: Period, rankable: set[str] | None, k: int
) -> pd.DataFrame:
    """One row a (model, shopper) of the holdout, see evaluation.protocol; `took_new_item`: something never sold before."""
    interactions = interactions_from_events(events)
    scorers = models | fit_baselines(interactions, period.start, recent_days)
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
