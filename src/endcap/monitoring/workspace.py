"""The Evidently workspace that the Evidently UI shows: one project, one run a dataset version, a dashboard over time.

Files are made beside the workspace and moved in whole: the running UI watches the folder and must never read half a file.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from endcap.contracts import MODEL_NAME
from endcap.data.locks import scratch

PROJECT = "Endcap: is the shop still what the champion learnt?"
PROJECT_ID = uuid.uuid5(uuid.NAMESPACE_URL, f"endcap:monitoring:{MODEL_NAME}")


def run_id(dataset_version: str, model_version: str) -> uuid.UUID:
    """The run's id: the same pair is one run, however often it is checked."""
    return uuid.uuid5(PROJECT_ID, f"{dataset_version}:{model_version}")


def run_path(dataset_version: str, model_version: str) -> str:
    """Where the UI shows the run, below Evidently's address."""
    return f"/projects/{PROJECT_ID}/reports/{run_id(dataset_version, model_version)}"


def add_run(snapshot: Any, workspace: Path, columns: Sequence[str], *, dataset_version: str, model_version: str) -> None:
    """Put the snapshot into the workspace, in place of an earlier run of the same pair; make the project at first."""
    runs = _project(workspace, columns) / "snapshots"
    runs.mkdir(exist_ok=True)
    with scratch(workspace.parent / "scratch") as folder:
        ready = folder / "run.json"
        ready.write_text(snapshot.dumps(), encoding="utf-8")
        ready.replace(runs / f"{run_id(dataset_version, model_version)}.json")


def _project(workspace: Path, columns: Sequence[str]) -> Path:
    target = workspace / str(PROJECT_ID)
    if target.exists():
        return target
    from evidently.sdk.models import ProjectModel
    from evidently.ui.workspace import Workspace

    workspace.mkdir(parents=True, exist_ok=True)
    with scratch(workspace.parent / "scratch") as folder:
        made = Workspace(str(folder)).add_project(
            ProjectModel(
                id=PROJECT_ID, name=PROJECT, description="The newest interval of each dataset version against the reference."
            )
        )
        for panel in _panels(columns):
            made.dashboard.add_panel(panel, tab="Drift")
        try:
            (folder / str(PROJECT_ID)).rename(target)
        except OSError:
            if not target.exists():  # else another check made it first
                raise
    return target


def _panels(columns: Sequence[str]) -> list[Any]:
    from evidently.sdk.models import PanelMetric
    from evidently.sdk.panels import counter_panel, line_plot_panel

    from endcap.monitoring import scores, text

    share = PanelMetric(metric="Verdict", legend="share")

    def of(name: str, legend: str = "", which: str = "value") -> Any:
        return PanelMetric(metric="Measurement", metric_labels={"name": name, "of": which}, legend=legend or name)

    def with_limit(name: str) -> list[Any]:
        return [of(name, "distance"), of(name, "limit", "limit")]

    return [
        counter_panel("Share of columns that moved", [share], description="newest interval", size="half"),
        counter_panel("Texts of bought items", [of(text.NAME, "distance (mmd)")], description="newest interval", size="half"),
        line_plot_panel("Share of columns that moved", [share], size="half"),
        line_plot_panel("Texts of bought items (mmd)", with_limit(text.NAME), size="half"),
        line_plot_panel("Online quality (rate of requests)", [of("hit rate"), of("click rate")], size="half"),
        line_plot_panel("Model scores (psi)", with_limit(scores.NAME), size="half"),
        line_plot_panel("Columns (psi)", [of(name) for name in columns]),
    ]
