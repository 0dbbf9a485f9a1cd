"""What a study searches in a workspace, and what one trial of it is: a full fit, judged on the validation days.

The hold-out, which the gates judge on, is not among the prepared data, so no trial can see it. Not here: the study (tune.py).
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.config import Params, with_values
from endcap.errors import ConfigError, TrainingError
from endcap.pipeline import stages
from endcap.progress import Progress
from endcap.search_space import grid, integers

if TYPE_CHECKING:
    from endcap.tuning.study import Objective, Report, Search

CODE = ("training", "models", "evaluation", "data/features.py")  # a change here makes another study
EPOCH = re.compile(r"epoch (\d+)/\d+ .*\bvalidation NDCG (\S+)$")


def describe(params: Params) -> list[tuple[str, str, str]]:
    """(key, present value, where it may lie) of the space."""
    present, rows = _present(params), []
    for key, one in params.tune.space.items():
        scale = " (log)" if one.log else f" in steps of {one.step}" if one.step else ""
        where = ", ".join(map(str, one.choices)) if one.choices is not None else f"{one.low} to {one.high}{scale}"
        rows.append((key, str(present[key]), where))
    return rows


def points(params: Params) -> int | None:
    """How many combinations a grid has; None where the sampler is no grid."""
    whole = integers(params.tune.space, Params)
    return len(grid(params.tune.space, whole)) if params.tune.sampler == "grid" else None


def make_search(root: Path, params: Params) -> Search:
    """What is searched in a workspace, and the facts that its trials depend on."""
    from endcap.release.candidate import flatten
    from endcap.tuning.study import Search

    space = params.tune.space
    if not space:
        raise ConfigError("is empty", field="tune.space", action="Name at least one parameter of train in params.yaml.")
    split = stages.read_json(root / "work" / "prepared" / "split.json", "Run the stages prepare and encode first.")
    sections = params.model_dump(mode="json", include={"train", "recent_days", "newcomers", "prepare", "encode"})
    left_out = ("encode.batch_size", "encode.max_seconds", "train.update")
    fixed = {key: value for key, value in flatten(sections).items() if key not in space and not key.startswith(left_out)}
    facts = {
        "dataset_version": split["dataset_version"],
        "metric": params.tune.metric,
        "space": {key: one.model_dump(exclude_defaults=True) for key, one in space.items()},
        "parameters": fixed,
        "code": _code_digest(),
    }
    epochs = space["train.max_epochs"].values() if "train.max_epochs" in space else (params.train.max_epochs,)
    return Search(params.tune, integers(space, Params), _present(params), max(int(one or 0) for one in epochs), facts)


def make_objective(root: Path, params: Params) -> Objective:
    """A full fit with some values changed → the metric on the newest validation days, before they were learnt."""
    from endcap.training.fitting import fit_full
    from endcap.training.options import fit_options

    parent = stages.read_json(root / "data" / "parent" / "parent.json", "Run `endcap dataset pull`, or make a workspace.")
    if parent["kind"] != "full":
        raise ConfigError(
            "only a full training is tuned", field="data/parent", value=parent["kind"], action="Pull without --update."
        )
    interactions, items, text = stages.load_prepared(root)
    split = stages.read_json(root / "work" / "prepared" / "split.json", "Run the stage prepare first.")
    until = datetime.fromisoformat(split["holdout_start"])

    def objective(values: dict[str, Any], report: Report) -> float:
        options = fit_options(with_values(params, values))
        options = dataclasses.replace(options, update_epochs=0)  # what comes after validation changes nothing that is judged
        ranked = fit_full(interactions, items, text, until, options, progress=by_epoch(report)).validation
        if not len(ranked):
            raise TrainingError("nobody bought in the newest validation days", field="prepare.validation_days", value=0)
        return float(ranked[params.tune.metric].mean())

    return objective


def by_epoch(report: Report) -> Progress:
    """The trainer's progress as reports of a trial: NDCG@10 of held-out questions after each epoch.

    The only place that knows how the trainer tells of its epochs.
    """

    def progress(line: str) -> None:
        if found := EPOCH.match(line):
            report(int(found[1]), float(found[2]))

    return progress


def _present(params: Params) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in params.tune.space:
        at: Any = params
        for part in key.split("."):
            at = getattr(at, part)
        found[key] = at
    return found


def _code_digest() -> str:
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for part in CODE:
        path = package / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(package)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:12]
