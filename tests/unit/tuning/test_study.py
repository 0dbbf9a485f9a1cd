"""Studies: they go on where they stopped, prune what is poor, keep what failed, and never mix trials of different facts."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from endcap.errors import ConfigError, TrainingError
from endcap.search_space import Tune, grid
from endcap.tuning.study import INTERRUPTED, REASON, Limits, Report, Search, Values, best, done, open_study, run

if TYPE_CHECKING:
    import optuna

SPACE: dict[str, Any] = {"layers": {"low": 1, "high": 4}, "rate": {"low": 0.001, "high": 0.1, "log": True}}
GRID: dict[str, Any] = {"layers": {"choices": [1, 2, 3]}, "rate": {"low": 0.1, "high": 0.3, "step": 0.1}}
LOGARITHMIC = 0.01


def search(sampler: str = "tpe", space: dict[str, Any] = SPACE, **others: Any) -> Search:
    options = {"trials": 8, "max_seconds": 60.0, "pruner": "none", "startup_trials": 3, "warmup_epochs": 1, "seed": 5}
    tune = Tune(sampler=sampler, metric="ndcg_at_10", space=space, **(options | others))  # type: ignore[arg-type]
    return Search(tune, {"layers"}, {"layers": 2, "rate": 0.03}, 4, {"dataset_version": "dataset-1"})


def hill(values: Values, _: Report) -> float:
    """Best at layers = 3, rate = 0.01."""
    return 1.0 - abs(values["layers"] - 3) * 0.1 - abs(values["rate"] - LOGARITHMIC)


def tried(study: optuna.Study) -> list[tuple[dict[str, Any], float | None]]:
    return [(trial.params, trial.value) for trial in done(study)]


def whole(folder: Path, what: Search, trials: int = 8) -> optuna.Study:
    study = open_study(folder, what)
    run(study, what, hill, Limits(trials))
    return study


@pytest.mark.parametrize(("sampler", "space"), [("tpe", SPACE), ("random", SPACE), ("grid", GRID)])
def test_an_interrupted_study_goes_on_as_if_nothing_had_happened(tmp_path: Path, sampler: str, space: dict[str, Any]) -> None:
    what, calls = search(sampler, space), itertools.count()

    def stopped(values: Values, report: Report) -> float:
        if next(calls) == 4:
            raise KeyboardInterrupt
        return hill(values, report)

    with pytest.raises(KeyboardInterrupt):
        run(open_study(tmp_path / "a", what), what, stopped, Limits(8))
    kept = tried(open_study(tmp_path / "a", what))
    assert len(kept) == 4
    resumed = tried(whole(tmp_path / "a", what))
    assert resumed[:4] == kept
    assert resumed == tried(whole(tmp_path / "b", what))
    assert len({str(params) for params, _ in resumed}) == 8  # a rerun that drew from the start again would repeat itself


def test_the_present_values_are_tried_first(tmp_path: Path) -> None:
    study = whole(tmp_path / "a", search(), 3)
    assert tried(study)[0][0] == {"layers": 2, "rate": 0.03}
    assert best(study).value >= hill({"layers": 2, "rate": 0.03}, lambda *_: None)


def test_a_grid_is_tried_whole_and_each_point_once(tmp_path: Path) -> None:
    what = search("grid", GRID)
    study = whole(tmp_path / "a", what, trials=99)
    points = [params for params, _ in tried(study)]
    assert len(points) == 9
    assert all(point in points for point in grid(what.tune.space, {"layers"}))


def test_a_killed_process_costs_only_its_own_trial(tmp_path: Path) -> None:
    what = search()
    study = open_study(tmp_path / "a", what)
    run(study, what, hill, Limits(2))
    study.ask(what.distributions())  # what kill -9 leaves behind: a trial that runs
    again = whole(tmp_path / "a", what, 4)
    assert len(done(again)) == 4
    assert [trial.user_attrs.get(INTERRUPTED) for trial in again.trials] == [None, None, True, None, None]


def test_values_that_kill_the_process_twice_are_not_tried_a_third_time(tmp_path: Path) -> None:
    what = search("grid", GRID)
    for _ in range(2):
        study = open_study(tmp_path / "a", what)
        study.enqueue_trial(grid(what.tune.space, {"layers"})[0])
        study.ask(what.distributions())
    (failed,) = done(open_study(tmp_path / "a", what))
    assert "killed twice" in failed.user_attrs[REASON]
    study = whole(tmp_path / "a", what, 2)
    assert done(study)[1].params != failed.params


@pytest.mark.parametrize("pruner", ["median", "successive_halving", "hyperband"])
def test_what_is_poor_from_the_start_is_not_fitted_to_the_end(tmp_path: Path, pruner: str) -> None:
    what, epochs = search("random", pruner=pruner, startup_trials=2), []

    def slow(values: Values, report: Report) -> float:
        for epoch in range(1, 5):
            epochs.append(epoch)
            report(epoch, hill(values, report) * epoch)
        return hill(values, report)

    study = open_study(tmp_path / "a", what)
    run(study, what, slow, Limits(12))
    states = [trial.state.name for trial in done(study)]
    assert len(states) == 12
    assert 0 < states.count("PRUNED") < 12
    assert len(epochs) < 12 * 4


def test_a_trial_that_fails_says_why_and_the_next_one_comes(tmp_path: Path) -> None:
    what = search("grid", GRID)

    def fragile(values: Values, report: Report) -> float:
        if values["layers"] == 2:
            raise TrainingError("the loss is not finite", field="epoch 1, step 1")
        return float("nan") if values["layers"] == 3 else hill(values, report)

    study = open_study(tmp_path / "a", what)
    run(study, what, fragile, Limits(9))
    reasons = [trial.user_attrs.get(REASON, "") for trial in done(study)]
    assert sum("loss is not finite" in reason for reason in reasons) == 3
    assert sum("no number" in reason for reason in reasons) == 3
    assert best(study).params["layers"] == 1


def test_when_everything_fails_the_last_reason_is_said(tmp_path: Path) -> None:
    def never(values: Values, report: Report) -> float:
        raise TrainingError("there is no memory")

    what = search()
    study = open_study(tmp_path / "a", what)
    run(study, what, never, Limits(2))
    with pytest.raises(TrainingError, match="study a: no trial was completed; the last one: there is no memory"):
        best(study)


def test_the_time_ends_a_study_and_its_last_trial_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("endcap.tuning.study.time.monotonic", lambda: now[0])

    def minute(values: Values, report: Report) -> float:
        now[0] += 60
        report(1, 0.0)
        return hill(values, report)

    what = search()
    study = open_study(tmp_path / "a", what)
    run(study, what, minute, Limits(8, seconds=150))
    assert len(done(study)) == 2
    assert study.trials[-1].user_attrs[INTERRUPTED]


def test_trials_of_other_facts_are_not_mixed_in(tmp_path: Path) -> None:
    whole(tmp_path / "a", search(), 2)
    other = search()
    other = Search(other.tune, other.whole, other.present, other.epochs, {"dataset_version": "dataset-2"})
    with pytest.raises(ConfigError, match=r"study a: was made with other dataset_version.*another --study"):
        open_study(tmp_path / "a", other)
