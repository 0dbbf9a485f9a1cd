"""Studies of hyper-parameters: run or resumed in a folder with prepared data, and taken over by a DAG run's workspace.

What is searched and what one trial is: study_objective.py.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.config import Params, Settings, load_settings
from endcap.data.locks import try_locked
from endcap.errors import ConfigError, ServiceUnavailable
from endcap.pipeline import reproduce
from endcap.pipeline import workspace as workspaces
from endcap.pipeline.study_objective import make_objective, make_search
from endcap.progress import Progress, silent

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from endcap.release.trials import TrialLog
    from endcap.tuning.study import Search

logger = logging.getLogger(__name__)

OUTCOME, OVERLAY = "outcome.json", "best.yaml"


def tune(
    root: Path,
    params: Params,
    study: str = "",
    trials: int | None = None,
    max_seconds: float | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Run a study until it has `trials` trials in all, or for `max_seconds`; run again, it goes on.

    It lies in `ENDCAP_HOME/tuning/<study>` with best.yaml and outcome.json, its page below `reports/tuning`,
    its trials in MLflow. Numbers that are not given are those of params.yaml.
    Returns {"study", "trials", "best_trial", "best_value", "present_value", "values", "report_url", "mlflow_url"}.

    Raises:
        ConfigError: an empty space, a name that is no folder's, another process on the study, or a study of other facts.
        DatasetError, TrainingError: nothing is prepared here, or no trial was completed.
        ServiceUnavailable: MLflow does not answer; trials that are done are kept.
    """
    from endcap.release.trials import TrialLog
    from endcap.tuning.study import Limits, done, open_study, run

    settings, search = load_settings(), make_search(root, params)
    name = _name(study, search)
    objective = make_objective(root, params)
    folder = settings.paths.tuning / name
    with try_locked(folder / ".lock") as free:
        if not free:
            raise ConfigError(
                "is running in another process", field=f"study {name}", action="Wait for it, or name another --study."
            )
        opened = open_study(folder, search)
        log = TrialLog(settings.mlflow_url, name, params.tune.metric)
        log.sync(done(opened))  # fails before anything is computed
        limits = Limits(trials or params.tune.trials, max_seconds or params.tune.max_seconds)
        run(opened, search, objective, limits, lambda trial: _show(trial, log, done(opened), limits, progress))
        return _conclude(opened, search, log, settings, folder)


def tune_workspace(workspace: str | Path, trials: int) -> dict[str, Any]:
    """What a DAG's task calls: a study named like the workspace, whose best values become the workspace's parameters.

    They are part of its code tree and its card from then on, so that a rebuild has them. A rerun goes on.
    Returns what `tune` returns; {"trials": 0} when no trials are asked for.

    Raises:
        DatasetError: no such workspace.
        TrainingError: the search failed; the message ends with its log.
    """
    if not trials:
        return {"trials": 0}
    root = Path(workspace).resolve()
    workspaces.read(root)
    command = [sys.executable, "-m", "endcap.cli", "tune", "--study", root.name, "--trials", str(trials)]
    reproduce.run_logged(root, command, "tune")
    folder = load_settings().paths.tuning / root.name
    outcome: dict[str, Any] = json.loads((folder / OUTCOME).read_text(encoding="utf-8"))
    workspaces.override(root, outcome["values"], tuned=f"{outcome['study']}#{outcome['best_trial']}")
    return outcome


def _show(
    trial: FrozenTrial,
    log: TrialLog,
    finished: list[FrozenTrial],
    limits: Any,
    progress: Progress,
) -> None:
    value = f" {trial.value:.4f}" if trial.state.name == "COMPLETE" and trial.value is not None else ""
    progress(f"trial {trial.number} ({len(finished)}/{limits.trials}) {trial.state.name.lower()}{value} {dict(trial.params)}")
    try:
        log.sync(finished)
    except ServiceUnavailable as error:  # the study keeps it; the next sync makes up for it
        logger.warning("trial not logged yet", extra={"trial": trial.number, "reason": str(error)})


def _conclude(study: Any, search: Search, log: TrialLog, settings: Settings, folder: Path) -> dict[str, Any]:
    """Write what came out: best.yaml, the page, MLflow, and last outcome.json."""
    from endcap.tuning.report import write_report
    from endcap.tuning.study import best, done, present_values, values_of

    winner, trials, metric = best(study), done(study), search.tune.metric
    values = values_of(winner.params)
    head = f"# {metric} {winner.value:.4f}: trial {winner.number} of {len(trials)} in study {study.study_name}\n"
    (folder / OVERLAY).write_text(head + _overlay(values), encoding="utf-8")
    report = settings.paths.reports / "tuning" / study.study_name
    present = present_values(study)
    write_report(study, report, metric, present)
    same = [one.value for one in trials if one.state.name == "COMPLETE" and values_of(one.params) == present]
    outcome = {
        "study": study.study_name,
        "trials": len(trials),
        "best_trial": winner.number,
        "best_value": winner.value,
        "present_value": same[0] if same else None,
        "values": values,
        "report_url": f"{settings.reports_url}/tuning/{study.study_name}/index.html",
        "mlflow_url": log.conclude(trials, winner, search.facts, report),
    }
    (folder / OUTCOME).write_text(json.dumps(outcome, indent=2) + "\n", encoding="utf-8")
    return outcome


def _overlay(values: dict[str, Any]) -> str:
    import yaml

    nested: dict[str, Any] = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        at = nested
        for section in sections:
            at = at.setdefault(section, {})
        at[name] = value
    return yaml.safe_dump(nested, sort_keys=False)


def _name(given: str, search: Search) -> str:
    if not given:
        text = json.dumps(search.facts, sort_keys=True, default=str)
        return f"{search.facts['dataset_version']}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    if workspaces.folder_name(given) != given:
        raise ConfigError("is no name for a folder", field="--study", value=given, action="Letters, digits, dots, - and _.")
    return given
