"""Endcap's own model on a benchmark's split: the recommender of the loop, with the loop's options."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd

from endcap.benchmark.measuring import Cost
from endcap.benchmark.splits import Split
from endcap.models.blend import BlendedRecommender
from endcap.models.history import Floats
from endcap.models.signals import SIGNALS
from endcap.progress import Progress, silent
from endcap.training.fitting import fit_full
from endcap.training.options import FitOptions

NAME = "Endcap"


def blend_weights(model: BlendedRecommender) -> dict[str, Any]:
    """What the blend learnt on validation: the weight of each signal for everybody, and how the two stages mix."""
    first = dict(zip(SIGNALS, np.round(model.weights[:, 0], 4).tolist(), strict=True))
    return {"first_stage": first, "mix": [round(weight, 4) for weight in model.mix], "second_stage": model.ranker is not None}


def fit_ours(
    split: Split, text_IE: Floats | None, options: FitOptions, seed: int, progress: Progress = silent
) -> tuple[BlendedRecommender, dict[str, Any]]:
    """A fitted recommender, and what it took: seconds, sequences/s, memory, epochs, hyper-parameters.

    `text_IE` None: ids only. The validation events choose the epoch and the blend; they are learnt only where the protocol
    has them in the past of the test (`time`).
    """
    days = (split.test_start - split.validation_start) / timedelta(days=1)
    options = dataclasses.replace(options, seed=seed, validation_days=days, horizon_days=split.horizon_days)
    text = text_IE if text_IE is not None else np.zeros((len(split.item_ids), 0), np.float32)
    with Cost() as cost:
        fitted = fit_full(
            split.known, pd.DataFrame({"item_id": split.item_ids}), text, split.test_start, options,
            absorb_validation=split.learn_validation, progress=progress,
        )  # fmt: skip
    curve = fitted.curve
    spent = sum(curve.seconds)
    return fitted.model, cost.facts("train") | {
        "epochs": len(curve.train), "best_epoch": curve.best_epoch,
        "sequences_per_second": round(sum(curve.windows) / spent, 1) if spent else 0.0,
        "train_loss": curve.train, "validation_loss": curve.valid, "validation_ndcg": curve.ndcg,
        "epoch_seconds": [round(seconds, 3) for seconds in curve.seconds], "blend": blend_weights(fitted.model),
        "hyper_parameters": dataclasses.asdict(options), "text": text_IE is not None,
    }  # fmt: skip
