"""docs/dags.md, written from the DAG files: what the UI shows, for readers who have no Airflow at hand."""

from __future__ import annotations

import os
import runpy
import sys
import tempfile
from pathlib import Path
from typing import Any

from endcap.errors import ConfigError

HEAD = """# The DAGs

Written by `make docs` from the files in `dags/`; CI fails when it differs. Each has a form in Airflow's UI with these fields.
Assets join them: `ingest_events` → **dataset** → `monitor_models` → **drift** → `update_incremental` → **candidate** →
`promote_model`, and `retrain_full` → **candidate** → `promote_model`.
"""


def load_dags(folder: Path) -> dict[str, Any]:
    """DAG id → DAG, by running the files; needs no database. Raises ConfigError when a file holds no DAG."""
    os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="endcap-airflow-"))
    from airflow.sdk import DAG

    ignored = set((folder / ".airflowignore").read_text(encoding="utf-8").split())
    found: dict[str, Any] = {}
    sys.path.insert(0, str(folder))
    try:
        for path in sorted(folder.glob("*.py")):
            if path.name in ignored:
                continue
            dags = [value for value in runpy.run_path(str(path)).values() if isinstance(value, DAG)]
            if not dags:
                raise ConfigError(
                    "holds no DAG", field=str(path), action="Name it in dags/.airflowignore if it is a shared module."
                )
            found |= {dag.dag_id: dag for dag in dags}
    finally:
        sys.path.remove(str(folder))
    return found


def render(dags: dict[str, Any]) -> str:
    """The whole page, in the order of the names."""
    return "\n".join([HEAD, *(_section(dags[name]) for name in sorted(dags))])


def _section(dag: Any) -> str:
    title, _, text = dag.doc_md.strip().removeprefix("### ").partition("\n")
    return "\n".join(
        [
            f"## {dag.dag_id}: {title.strip()}",
            text.rstrip(),
            "",
            _facts(dag),
            "",
            _diagram(dag),
            "",
            _form(dag),
            "",
            _tasks(dag),
            "",
        ]
    )


def _facts(dag: Any) -> str:
    hours = dag.dagrun_timeout.total_seconds() / 3600
    runs = f"At most {dag.max_active_runs} at once, {hours:g} h each"
    return f"Schedule: {_schedule(dag)}. {runs}. Tags: {', '.join(sorted(dag.tags))}."


def _schedule(dag: Any) -> str:
    if isinstance(dag.schedule, list):
        return "after " + ", ".join(f"asset `{asset.name}`" for asset in dag.schedule) + ", or by hand"
    return "by hand, or on the cron that the environment sets"


def _diagram(dag: Any) -> str:
    lines = ["```mermaid", "flowchart LR"]
    for task in _in_order(dag):
        lines.append(f"    {task.task_id}")
        lines += [f"    {task.task_id} --> {below}" for below in _next(task)]
        lines += [f"    {task.task_id} -.-> {asset.name}([asset {asset.name}])" for asset in task.outlets]
    return "\n".join([*lines, "```"])


def _next(task: Any) -> list[str]:
    """Direct successors that no longer path reaches, too: arrows that the eye needs."""
    children = task.get_direct_relatives(upstream=False)
    further = {name for child in children for name in child.get_flat_relative_ids(upstream=False)}
    return sorted(task.downstream_task_ids - further)


def _form(dag: Any) -> str:
    rows = ["| field | default | meaning |", "|---|---|---|"]
    for name in dag.params:
        param = dag.params.get_param(name)
        default = "empty" if param.value is None else f"`{param.value}`"
        rows.append(f"| {param.schema['title']} (`{name}`) | {default} | {param.description} |")
    return "\n".join(rows)


def _tasks(dag: Any) -> str:
    rows = ["| task | retries | time-out | pool |", "|---|---|---|---|"]
    for task in _in_order(dag):
        limit = task.execution_timeout or getattr(task, "response_timeout", None)
        rows.append(f"| {task.task_id} | {task.retries} | {limit} | {task.pool} |")
    return "\n".join(rows)


def _in_order(dag: Any) -> list[Any]:
    """Upstream first, else by name."""
    done: list[Any] = []
    left = sorted(dag.task_dict.values(), key=lambda task: task.task_id)
    while left:
        ready = next(task for task in left if task.upstream_task_ids <= {other.task_id for other in done})
        done.append(ready)
        left.remove(ready)
    return done
