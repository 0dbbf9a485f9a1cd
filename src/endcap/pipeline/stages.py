"""The stages of training, each reading and writing files of one workspace: prepare, train, evaluate (the rest: text_stages.py).

data/dataset, data/parent → work/prepared → work/adapted → work/encoded → work/model, work/validation.parquet → work/evaluation
"""

from __future__ import annotations

import json
import logging
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.errors import DatasetError, TrainingError
from endcap.progress import Progress, silent

if TYPE_CHECKING:
    import pandas as pd

    from endcap.config import Params

logger = logging.getLogger(__name__)

EXPOSURES = "exposures.parquet"  # below work/prepared: what was shown before the hold-out, empty in a shop that shows nothing
VALIDATION = "validation.parquet"  # below work/: how the newest validation days were ranked, one row a shopper
CHECKPOINT = Path("train.checkpoint.safetensors")  # beside work/, since DVC clears a stage's outputs before it runs


def prepare(root: Path, params: Params) -> dict[str, Any]:
    """Split the dataset version by time; write what training may see and the table of all listed items."""
    import pandas as pd

    from endcap.data.partitions import read_events, read_exposures
    from endcap.data.splits import split_by_time

    source, target = root / "data" / "dataset", root / "work" / "prepared"
    card = read_json(source / "dataset.json", "Check out a dataset version first: `endcap dataset pull`.")
    end = datetime.fromisoformat(card["interval_end"])
    events = read_events(source, end=end).to_pandas()
    if events.empty:
        raise DatasetError("the dataset version has no events", field=str(source), value=0, action="Ingest a batch first.")
    catalog = pd.read_parquet(source / "catalog.parquet")
    split = split_by_time(
        events["time"].min().to_pydatetime(), end, params.prepare.validation_days, params.prepare.holdout_days
    )
    learnable = events[events["time"] < pd.Timestamp(split.holdout_start)]
    enough = learnable["item_id"].map(learnable["item_id"].value_counts()) >= params.prepare.min_item_events
    learnable = learnable[enough].sort_values(["time", "event_id"], kind="stable")
    _check_features(root, card["version"], learnable, catalog, split.holdout_start)
    items = _item_table(catalog, learnable)
    users = learnable.groupby("user_id").agg(
        first_time=("time", "min"), last_time=("time", "max"), events=("event_id", "size"), country=("country", "first")
    )
    target.mkdir(parents=True, exist_ok=True)
    columns = ["user_id", "item_id", "time", "type", "quantity", "price", "surface", "country", "request_id", "cancelled_at"]
    learnable[columns].to_parquet(target / "interactions.parquet", index=False)
    items.to_parquet(target / "items.parquet", index=False)
    users.reset_index().to_parquet(target / "users.parquet", index=False)
    shown = read_exposures(source, end=split.holdout_start).to_pandas()
    shown.to_parquet(target / EXPOSURES, index=False)
    facts = {"dataset_version": card["version"], **split.to_json()}
    counts = {"interactions": len(learnable), "items": len(items), "users": len(users), "shown_items": len(shown)}
    write_json(target / "split.json", facts | counts)
    return counts


def _check_features(root: Path, version: str, learnable: pd.DataFrame, catalog: pd.DataFrame, known_until: datetime) -> None:
    """Hold what will be learnt against its contract; the result page is work/validation/training_features.html.

    Raises:
        DatasetError: a blocking expectation is broken. What only warns is printed.
    """
    import pyarrow as pa

    from endcap.config import project_root
    from endcap.data.batch_checks import event_frame
    from endcap.data.validation import ValidationContext, validate

    learnt = pa.Table.from_pandas(learnable[["user_id", "item_id", "time", "quantity"]], preserve_index=False)
    listed = pa.Table.from_pandas(catalog[["item_id", "title", "price"]], preserve_index=False)
    suites = project_root() / "expectations"
    context = ValidationContext(suites, root / "work" / "validation", version, {"latest": known_until})
    if learnable.empty:
        action = "Ingest events older than params.yaml: prepare.holdout_days, or lower prepare.min_item_events."
        raise DatasetError("has no events before the hold-out", field=version, value=0, action=action)
    result = validate("training_features", event_frame(learnt, listed), context)
    for warning in result.warnings:
        logger.warning("training_features: %s", warning)
    if not result.passed:
        action = f"See {result.report}, and the batches that this version was made of."
        raise DatasetError("breaks the contract training_features:\n" + "\n".join(result.reasons), field=version, action=action)


def _item_table(catalog: pd.DataFrame, learnable: pd.DataFrame) -> pd.DataFrame:
    """One row a listed or sold item, sorted by id; items that the catalogue lacks have no text."""
    import pandas as pd

    from endcap.data.item_text import item_texts

    columns = ["item_id", "title", "description", "brand", "category", "price", "available_from"]
    listed = catalog.reindex(columns=columns).drop_duplicates("item_id", keep="last")
    sold = pd.Index(learnable["item_id"].unique()).difference(pd.Index(listed["item_id"]))
    if len(sold):
        listed = pd.concat([listed, pd.DataFrame({"item_id": sold, "title": ""})], ignore_index=True)
    return listed.assign(text=item_texts(listed)).sort_values("item_id", kind="stable").reset_index(drop=True)


def train(root: Path, params: Params, progress: Progress = silent) -> dict[str, Any]:
    """Fit from nothing, or update the parent, and write the model directory. Processes of torchrun share the work."""
    from endcap.training.distributed import together

    return together(lambda: _train(root, params, progress)) or {}


def _train(root: Path, params: Params, progress: Progress) -> dict[str, Any]:
    import shutil

    from endcap.models.model_files import load_model, save_model
    from endcap.models.text.space import load_space
    from endcap.pipeline import behaviour_stage
    from endcap.training.fitting import fit_full
    from endcap.training.incremental import fit_update
    from endcap.training.options import fit_options

    begun = time.monotonic()
    prepared = root / "work" / "prepared"
    facts = read_json(prepared / "split.json", "Run the stage prepare first.")
    parent_facts = read_json(root / "data" / "parent" / "parent.json", "Run `endcap dataset pull`, or make a workspace.")
    interactions, items, text = load_prepared(root)
    until, options = datetime.fromisoformat(facts["holdout_start"]), fit_options(params)
    shown, checkpoint = behaviour_stage.shown_days(root, params), root / CHECKPOINT
    if parent_facts["kind"] == "incremental":
        parent = load_model(root / "data" / "parent" / "model")
        _check_encoder(parent, text.shape[1])
        since = _since(parent, parent_facts.get("model_version"), until, facts["dataset_version"])
        fitted = fit_update(
            parent, interactions, items, text, since, until, options, progress, shown=shown, checkpoint_path=checkpoint
        )
    else:
        fitted = fit_full(interactions, items, text, until, options, checkpoint_path=checkpoint, shown=shown, progress=progress)
    fitted.model.config |= {
        "kind": parent_facts["kind"],
        "parent_version": parent_facts.get("model_version"),
        "dataset_version": facts["dataset_version"],
        "encoder": params.encode.model,
        "behaviour": behaviour_stage.facts(fitted.behaviour),
        "hyper_parameters": params.train.model_dump(mode="json"),
        "curve": {
            "train_loss": fitted.curve.train,
            "validation_loss": fitted.curve.valid,
            "validation_ndcg": fitted.curve.ndcg,
            "best_epoch": fitted.curve.best_epoch,
        },
    }
    target = root / "work" / "model"
    shutil.rmtree(target, ignore_errors=True)
    save_model(fitted.model, target)
    behaviour_stage.save(fitted.behaviour, target)
    if space := load_space(root / "work" / "encoded"):
        space.save(target)  # new items are read as these were
    fitted.validation.to_parquet(root / "work" / VALIDATION, index=False)  # shoppers' rows never travel inside a model
    checkpoint.unlink(missing_ok=True)
    seconds, head = round(time.monotonic() - begun, 1), behaviour_stage.summary(fitted.model.config["behaviour"])
    return {"kind": parent_facts["kind"], "epochs": len(fitted.curve.train), "behaviour": head, "seconds": seconds}


def evaluate(root: Path, params: Params) -> dict[str, Any]:
    """Compare with the baselines how the newest validation days were ranked before they were learnt; write metrics, plots."""
    import pandas as pd

    from endcap.data.features import interactions_from_events
    from endcap.evaluation.baselines import fit_baselines
    from endcap.evaluation.protocol import make_period, score_period
    from endcap.evaluation.report import Confidence, write_report

    prepared, model = root / "work" / "prepared", root / "work" / "model"
    config = read_json(model / "config.json", "Run the stage train first.")
    ranked = pd.read_parquet(root / "work" / VALIDATION)
    events = pd.read_parquet(prepared / "interactions.parquet")
    listed = pd.read_parquet(prepared / "items.parquet", columns=["item_id"])["item_id"].tolist()
    k = params.evaluate.k
    if len(ranked):
        start, end = (datetime.fromisoformat(config["validation"][name]) for name in ("start", "end"))
        period = make_period(events, start, end)
        baselines = fit_baselines(interactions_from_events(events, listed), start, params.recent_days)
        rows = [score_period(name, scorer, period, k) for name, scorer in baselines.items()]
        beside = pd.concat(rows, ignore_index=True)
        ranked = pd.concat([ranked, beside[beside["user_id"].isin(ranked["user_id"])]], ignore_index=True)
    confidence = Confidence(params.evaluate.bootstrap_samples, params.evaluate.confidence, params.evaluate.seed)
    size = sum(path.stat().st_size for path in model.rglob("*") if path.is_file())
    extra = {"items": float(len(listed)), "epochs": float(len(config["curve"]["train_loss"])), "size_mb": round(size / 1e6, 3)}
    behaviour = config.get("behaviour", {})
    return write_report(root / "work" / "evaluation", ranked, config["curve"], extra, k, confidence, behaviour)


def load_prepared(root: Path) -> tuple[Any, pd.DataFrame, Any]:
    """What the stages prepare and encode wrote: interactions, the item table, text vectors (items, dimensions).

    Raises:
        DatasetError, TrainingError: a stage did not run, or the two do not go together.
    """
    import numpy as np
    import pandas as pd
    from safetensors.numpy import load_file

    from endcap.data.features import interactions_from_events

    items = pd.read_parquet(root / "work" / "prepared" / "items.parquet")
    ids = read_json(root / "work" / "encoded" / "items.json", "Run the stage encode first.")
    if ids != items["item_id"].tolist():
        raise TrainingError(
            "encoded texts belong to other items", field="work/encoded/items.json", action="Run the stage encode again."
        )
    text = load_file(root / "work" / "encoded" / "text.safetensors")["text"].astype(np.float32)
    events = pd.read_parquet(root / "work" / "prepared" / "interactions.parquet")
    return interactions_from_events(events, ids), items, text


def _since(parent: Any, version: Any, until: datetime, dataset_version: str) -> datetime:
    """Until when the parent has learnt; it must not have seen what the candidate will be judged on."""
    since = datetime.fromisoformat(parent.config["trained_until"])
    if since > until:
        raise TrainingError(
            f"the parent, model {version}, has learnt events until {since:%Y-%m-%d %H:%M}, but the holdout of {dataset_version}"
            f" starts {until:%Y-%m-%d %H:%M}: its update would be judged on what it has seen",
            field="dataset version",
            value=dataset_version,
            action="Update on a newer dataset version (`latest`), or train this one in full with retrain_full.",
        )
    return since


def _check_encoder(parent: Any, width: int) -> None:
    if parent.model.shape.text_dim != width:
        raise TrainingError(
            f"the parent model reads texts of {parent.model.shape.text_dim} dimensions",
            field="encode.model",
            value=width,
            action="Keep the parent's encoder, or train in full.",
        )


def read_json(path: Path, action: str) -> Any:
    """A JSON file that a stage wrote. Raises DatasetError, which says `action`, where it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot be read ({error})", field=str(path), action=action) from error


def write_json(path: Path, value: Any) -> None:
    """Write JSON that is the same for the same value."""
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
