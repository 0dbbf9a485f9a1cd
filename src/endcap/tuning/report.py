"""What a study found, as a page with Optuna's own pictures: history, importances, parallel coordinates, each trial.

Not here: which values are tried (study.py), and where the best ones are written (pipeline/tune.py).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from endcap.tuning.study import REASON, Values, best, done, values_of

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

PICTURES = {
    "history.png": "How the best value came about",
    "importances.png": "How much each parameter mattered (fANOVA)",
    "parallel.png": "Which values went together",
    "epochs.png": "Each trial by epoch, and where it was pruned",
}
ENOUGH = 3  # complete trials, before importances or coordinates say anything


def write_report(study: optuna.Study, folder: Path, metric: str, present: Values) -> Path:
    """Write index.html and its pictures below `folder`; returns the page. At least one trial must be complete.

    A picture that says nothing yet (too few trials, or all alike) is left out, and the page says so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {name: title for name, title in PICTURES.items() if _draw(study, name, folder / name, metric)}
    winner, trials = best(study), done(study)
    now = next((trial for trial in trials if values_of(trial.params) == present and trial.value is not None), None)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        study=study.study_name,
        metric=metric,
        best=_row(winner),
        present=_row(now) if now else None,
        trials=[_row(trial) for trial in trials],
        keys=sorted(winner.params),
        pictures=pictures,
        missing=[title for name, title in PICTURES.items() if name not in pictures],
        facts=study.user_attrs.get("facts", {}),
    )
    target = folder / "index.html"
    target.write_text(page, encoding="utf-8")
    return target


def _row(trial: FrozenTrial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "value": trial.value if trial.state.name == "COMPLETE" else None,
        "values": values_of(trial.params),
        "epochs": len(trial.intermediate_values),
        "seconds": round(trial.duration.total_seconds(), 1) if trial.duration else None,
        "reason": trial.user_attrs.get(REASON, ""),
    }


def _draw(study: optuna.Study, name: str, path: Path, metric: str) -> bool:
    """Draw one picture; False where there is nothing to see."""
    import matplotlib as mpl
    from optuna.visualization import matplotlib as draw

    mpl.use("Agg")  # no display
    from matplotlib import pyplot

    complete = [trial for trial in done(study) if trial.state.name == "COMPLETE"]
    varied = len({trial.value for trial in complete}) > 1 and len(complete) >= ENOUGH
    drawings: dict[str, tuple[bool, Callable[[], Any]]] = {
        "history.png": (bool(complete), lambda: draw.plot_optimization_history(study, target_name=metric)),
        "importances.png": (varied, lambda: draw.plot_param_importances(study, target_name=metric)),
        "parallel.png": (varied, lambda: draw.plot_parallel_coordinate(study, target_name=metric)),
        "epochs.png": (
            any(trial.intermediate_values for trial in done(study)),
            lambda: draw.plot_intermediate_values(study),
        ),
    }
    wanted, make = drawings[name]
    path.unlink(missing_ok=True)
    if not wanted:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls its matplotlib pictures experimental, each time
        make()
        figure = pyplot.gcf()
        figure.set_size_inches(11, 4.5)
        figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})
        pyplot.close("all")
    return True
