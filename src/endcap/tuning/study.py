"""A study that outlives its process: trials asked of Optuna one after the other, each kept in SQLite the moment it ends.

Seeds follow from the number of trials that are done, so an interrupted study goes on as if nothing had happened. What one
trial is (pipeline/tune.py) and where it is shown (tuning/report.py, release/trials.py) do not belong here.
"""

from __future__ import annotations

import json
import logging
import math
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from endcap.errors import ConfigError, EndcapError, TrainingError
from endcap.search_space import Dimension, Tune, grid

logger = logging.getLogger(__name__)

Values = dict[str, Any]
Report = Callable[[int, float], None]  # epoch from 1, and how good the trial is so far: higher is better
Objective = Callable[[Values, Report], float]
FACTS = "facts"  # user attributes of a study and of its trials
PRESENT = "present"
INTERRUPTED = "interrupted"
KILLED = "killed"
REASON = "reason"
DIGITS = 4  # significant ones of a number that is tried: what was tried is what is written down


class TimeUp(Exception):
    """The study's time ended inside a trial, which is not counted."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a study ends."""

    trials: int  # in all, those of former runs too
    seconds: float = math.inf  # of this run


@dataclass(frozen=True, slots=True)
class Search:
    """What is searched: the settings, which keys are whole numbers, and the values one has now (tried first if inside)."""

    tune: Tune
    whole: set[str]
    present: Values
    epochs: int  # that a trial takes at most
    facts: Mapping[str, Any]  # what the trials depend on; another run of the study must have the same

    def distributions(self) -> dict[str, BaseDistribution]:
        """The space in Optuna's words."""
        return {key: _distribution(one, key in self.whole) for key, one in self.tune.space.items()}


def open_study(folder: Path, search: Search) -> optuna.Study:
    """Open or make the study in `folder`. Trials that a killed process left running are marked as interrupted.

    Raises:
        ConfigError: the study that lies there is about something else (data, space, metric, code, other parameters).
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "study.db"
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"creator": lambda: _connect(path)})
    study = optuna.create_study(storage=storage, study_name=folder.name, direction="maximize", load_if_exists=True)
    known = study.user_attrs.get(FACTS)
    facts = json.loads(json.dumps(search.facts))
    if known is None:
        study.set_user_attr(FACTS, facts)
        study.set_user_attr(PRESENT, search.present)
    elif known != facts:
        other = sorted(key for key in known.keys() | facts.keys() if known.get(key) != facts.get(key))
        raise ConfigError(
            f"was made with other {', '.join(other)}: its trials cannot be compared with new ones",
            field=f"study {folder.name}",
            action="Name another --study; without a name each set of facts has its own.",
        )
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        _bury(study, trial)
    return study


def _connect(path: Path) -> sqlite3.Connection:
    """A connection whose commits outlive a killed process (not a power cut), and cost a tenth of those that would."""
    connection = sqlite3.connect(path, timeout=60, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


def run(
    study: optuna.Study,
    search: Search,
    objective: Objective,
    limits: Limits,
    after: Callable[[FrozenTrial], None] = lambda _: None,
) -> None:
    """Try until so many trials are done, the time is up, or the grid is empty. `after` is told of each that ended.

    A trial that ends with an EndcapError is kept as failed with its reason, and the study goes on. Whatever else ends one
    (Ctrl-C, a defect) passes through; that trial is not counted, and a rerun tries the same values again.
    """
    distributions, until = search.distributions(), time.monotonic() + limits.seconds
    while len(done(study)) < limits.trials and time.monotonic() < until:
        fixed = _fixed(study, search)
        if fixed is None:
            break
        if fixed and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            study.enqueue_trial(fixed)
        study.sampler = _sampler(search.tune, len(done(study)))
        study.pruner = _pruner(search.tune, search.epochs)
        trial = study.ask(distributions)
        try:
            ended = _one(study, trial, objective, until)
        except TimeUp:
            break
        after(ended)


def done(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that ended by themselves: complete, pruned, or failed for a reason of their own."""
    ended = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    return [trial for trial in study.get_trials(deepcopy=False, states=ended) if not trial.user_attrs.get(INTERRUPTED)]


def present_values(study: optuna.Study) -> Values:
    """What the shop used when the study began: a workspace that took the best values over has other ones now."""
    return dict(study.user_attrs.get(PRESENT, {}))


def best(study: optuna.Study) -> FrozenTrial:
    """The best complete trial; of equals the first.

    Raises:
        TrainingError: no trial was completed; names why the last one failed.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        reasons = [trial.user_attrs[REASON] for trial in done(study) if REASON in trial.user_attrs]
        why = f"; the last one: {reasons[-1]}" if reasons else ""
        raise TrainingError(
            f"no trial was completed{why}", field=f"study {study.study_name}", action="Give it more time, or another space."
        )
    return max(complete, key=lambda trial: (trial.value or -math.inf, -trial.number))


def values_of(params: Mapping[str, Any]) -> Values:
    """What a trial tries: real numbers with four significant digits, so that params.yaml can hold the very value.

    >>> values_of({"train.dim": 64, "train.learning_rate": 0.00123456})
    {'train.dim': 64, 'train.learning_rate': 0.001235}
    """
    return {key: float(f"{one:.{DIGITS}g}") if isinstance(one, float) else one for key, one in params.items()}


def _bury(study: optuna.Study, trial: FrozenTrial) -> None:
    """End a trial whose process was killed: interrupted, or failed where the same values did so before."""
    failed = study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
    again = any(one.params == trial.params and one.user_attrs.get(KILLED) for one in failed)
    why = {REASON: "the process was killed twice while it tried these values; is there memory enough?"}
    for key, value in (why if again else {INTERRUPTED: True, KILLED: True}).items():
        study._storage.set_trial_user_attr(trial._trial_id, key, value)
    study.tell(trial.number, state=TrialState.FAIL)


def _one(study: optuna.Study, trial: optuna.Trial, objective: Objective, until: float) -> FrozenTrial:
    def report(epoch: int, value: float) -> None:
        trial.report(value, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned
        if time.monotonic() > until:
            raise TimeUp

    try:
        value = objective(values_of(trial.params), report)
        if math.isfinite(value):
            return study.tell(trial, value)
        raise TrainingError("the metric is no number", field="tune.metric", value=value)
    except optuna.TrialPruned:
        return study.tell(trial, state=TrialState.PRUNED)
    except EndcapError as error:
        logger.warning("trial failed", extra={"study": study.study_name, "trial": trial.number, "reason": str(error)})
        trial.set_user_attr(REASON, str(error))
        return study.tell(trial, state=TrialState.FAIL)
    except BaseException:
        trial.set_user_attr(INTERRUPTED, True)
        study.tell(trial, state=TrialState.FAIL)
        raise


def _fixed(study: optuna.Study, search: Search) -> Values | None:
    """Values that the next trial must take; {} leaves them to the sampler, None says that the grid is empty."""
    if search.tune.sampler == "grid":
        tried = [trial.params for trial in done(study)]
        return next((point for point in grid(search.tune.space, search.whole) if point not in tried), None)
    first = not done(study)
    outside = [key for key, one in search.distributions().items() if not _contains(one, search.present[key])]
    if first and outside:
        logger.warning("present values are outside of tune.space and not tried", extra={"keys": outside})
    return search.present if first and not outside else {}


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    return bool(distribution._contains(distribution.to_internal_repr(value)))


def _sampler(tune: Tune, number: int) -> BaseSampler:
    seed = tune.seed + number
    if tune.sampler == "tpe":
        return TPESampler(seed=seed, n_startup_trials=tune.startup_trials)
    return RandomSampler(seed=seed)  # a grid fixes every value


def _pruner(tune: Tune, epochs: int) -> BasePruner:
    if tune.pruner == "median":
        return MedianPruner(n_startup_trials=tune.startup_trials, n_warmup_steps=tune.warmup_epochs)
    resource = max(tune.warmup_epochs, 1)
    if tune.pruner == "successive_halving":
        return SuccessiveHalvingPruner(min_resource=resource, reduction_factor=2)
    if tune.pruner == "hyperband":
        return HyperbandPruner(min_resource=resource, max_resource=max(epochs, resource), reduction_factor=2)
    return NopPruner()


def _distribution(one: Dimension, whole: bool) -> BaseDistribution:
    if one.choices is not None:
        return CategoricalDistribution(one.choices)
    assert one.low is not None
    assert one.high is not None
    if whole:
        return IntDistribution(int(one.low), int(one.high), log=one.log, step=int(one.step or 1))
    return FloatDistribution(float(one.low), float(one.high), log=one.log, step=one.step)
