"""`endcap benchmark quality`: read, split, fit each model for each seed, judge, write. The steps, in order.

The figures come from `summary.py`; what is trained and judged from `benchmark/splits.py`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from endcap.benchmark.input_files import describe_files
from endcap.benchmark.item_table import ItemTable, read_items
from endcap.benchmark.judging import users_without_new
from endcap.benchmark.partial import PartialResults
from endcap.benchmark.quality.chart import draw
from endcap.benchmark.quality.fits import Plan, fit_all
from endcap.benchmark.quality.ours import NAME
from endcap.benchmark.quality.summary import summarise
from endcap.benchmark.result_file import check_out, publish
from endcap.benchmark.splits import LEAVE_ONE_OUT, Split, by_time, leave_one_out, sample
from endcap.benchmark.tables import EventTable, read_events
from endcap.benchmark.texts import encode_texts
from endcap.benchmark.times import read_moment
from endcap.config import Params
from endcap.errors import InputError
from endcap.evaluation.report import Confidence
from endcap.progress import Progress, silent
from endcap.training.options import FitOptions

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for."""

    interactions: Path
    items: Path | None
    protocol: str  # leave-one-out | time
    split_at: str | None = None  # a moment, as the file writes its own
    seeds: int = 3  # 0: only the baselines
    baselines: bool = True
    max_users: int | None = None  # judged, drawn at random; None: all
    mask_seen: bool = True
    out: Path | None = None
    ablation: bool = False
    cold_start: bool = False


def run_quality(
    request: Request, params: Params, options: FitOptions, text_cache: Path | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """The whole benchmark; writes `request.out` and a PNG beside it, and returns what it wrote.

    Raises:
        InputError: a file cannot be used, or nobody can be judged.
    """
    begun = time.monotonic()
    check(request)
    ours = NAME if request.seeds else None
    events = read_events(request.interactions)
    items = read_items(request.items, events.items)
    for warning in (*events.warnings, *items.warnings):
        progress(f"note: {warning}")
    split = make_split(request, events, items, params)
    for note in masked_notes(request, split):
        progress(f"note: {note}")
    progress(f"{len(events):,} events, {len(split.item_ids):,} items; {len(split.test):,} users to judge")
    facts = describe(request, events, items, split)
    partial = PartialResults(request.out, {"data": facts, "params": params.model_dump(mode="json"), "options": options})
    text, text_facts = encode_texts(items, split.train, params, text_cache, progress)
    plan = Plan(request.seeds, request.baselines, request.mask_seen, request.ablation, request.cold_start)
    runs = fit_all(split, text, options, plan, partial, progress)
    confidence = Confidence(params.evaluate.bootstrap_samples, params.evaluate.confidence, params.evaluate.seed)
    models = summarise(runs, ours, split, confidence, mask_seen=request.mask_seen)
    figures = {"format": FORMAT, **facts, "text": text_facts, "ours": ours, "models": models}
    return publish(figures, begun, request.out, draw, partial)


def check(request: Request) -> None:
    """See that what is asked for can be done.

    Raises:
        InputError: names what cannot.
    """
    check_out(request.out, request.interactions, request.items)
    if request.split_at is not None and request.protocol == LEAVE_ONE_OUT:
        action = "Use --protocol time, or leave it out."
        raise InputError("means nothing without times", field="split-at", value=request.split_at, action=action)
    if not request.seeds and not request.baselines:
        raise InputError("nothing to fit", field="seeds", value=0, action="Give at least one seed, or the baselines.")
    if (request.ablation or request.cold_start) and not request.seeds:
        raise InputError("there is no Endcap to study", field="seeds", value=0, action="Give at least one seed.")
    if request.ablation and request.protocol != LEAVE_ONE_OUT:
        action = f"Use --protocol {LEAVE_ONE_OUT}: by time the fitted model has learnt what the parts would be weighed on."
        raise InputError("parts cannot be taken out", field="ablation", value=request.protocol, action=action)


def make_split(request: Request, events: EventTable, items: ItemTable, params: Params) -> Split:
    """The protocol's split, with at most `max_users` to judge."""
    if request.protocol == LEAVE_ONE_OUT:
        split = leave_one_out(events, items.item_ids)
    else:
        at = None
        if request.split_at is not None and events.times_us is not None:
            at = read_moment(request.split_at, events.columns["time_unit"], "split-at")
        split = by_time(events, items.item_ids, at, params.prepare.validation_days)
    if not len(split.test):
        raise InputError("nobody can be judged", field="test users", value=0, action="Give an earlier --split-at.")
    return replace(split, test=sample(split.test, request.max_users))


def masked_notes(request: Request, split: Split) -> list[str]:
    """A note on test users for whom masking leaves nothing to be found."""
    lost = users_without_new(split.test) if request.mask_seen else 0
    if not lost:
        return []
    return [
        f"{lost:,} of {len(split.test):,} test users want only items that stand in their own history: masked, they are misses"
        f" for every model, so that no recall, NDCG or MRR can be above {1 - lost / len(split.test):.3f}. If rows are repeated,"
        " drop the copies; if shoppers take things again, give --no-mask-seen"
    ]


def describe(request: Request, events: EventTable, items: ItemTable, split: Split) -> dict[str, Any]:
    """What was judged on what: protocol, sizes, files by name and checksum, columns. No paths: they say nothing elsewhere."""
    files = describe_files(interactions=request.interactions, items=request.items)
    cold = split.cold
    return {
        "protocol": {
            "name": request.protocol, "mask_seen": request.mask_seen, "ranked_items": len(split.item_ids),
            "judged_users": len(split.test), "validation_users": len(split.validation),
            "split_at": split.test_start.isoformat() if request.protocol != LEAVE_ONE_OUT else None,
            "validation_from": split.validation_start.isoformat() if request.protocol != LEAVE_ONE_OUT else None,
            "validation_is_learnt": split.learn_validation,
        },
        "data": {
            "users": len(split.train.user_ids), "items": len(split.item_ids), "interactions": len(events),
            "training_interactions": len(split.known if split.learn_validation else split.train),
            "cold_items": int(cold.sum()), "cold_wanted": int(cold[split.test.wanted_codes].sum()),
            "files": files, "columns": events.columns, "text_columns": list(items.text_columns),
            "columns_without_words": list(items.left_out),
            "notes": [*events.warnings, *items.warnings, *masked_notes(request, split)],
        },
    }  # fmt: skip
