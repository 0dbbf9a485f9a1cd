"""The running Evidently UI shows a check that is published while it runs, and its numbers over time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pandas as pd
import pytest
from tests.fixtures import steady_shop as shop
from tests.fixtures.mlflow import free_port

from endcap.monitoring import workspace
from endcap.monitoring.checks import Check, Kind, decide
from endcap.monitoring.columns import check_columns, describe
from endcap.monitoring.report import build_report
from endcap.monitoring.text import NAME as TEXT
from endcap.monitoring.watch import Watched
from endcap.monitoring.windows import choose_windows

SECONDS = 120


@pytest.fixture
def ui(tmp_path: Path) -> Iterator[str]:
    """Evidently's UI over an empty workspace, as the stack starts it."""
    folder, port = tmp_path / "evidently", free_port()
    folder.mkdir()
    command = [str(Path(sys.executable).with_name("evidently")), "ui", "--workspace", str(folder), "--port", str(port)]
    with (tmp_path / "ui.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "PYTHONWARNINGS": "ignore"}, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _until(lambda: httpx.get(f"{url}/api/version").status_code == 200)
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def test_the_running_ui_shows_new_checks_over_time(ui: str, tmp_path: Path) -> None:
    for number in (1, 2, 2):  # the second version is checked twice
        _publish(tmp_path / "evidently", number)
    project = f"{ui}/api/projects/{workspace.PROJECT_ID}"
    _until(lambda: len(httpx.get(f"{project}/reports").json()) == 2)
    runs = {run["id"]: run["metadata"] for run in httpx.get(f"{project}/reports").json()}
    assert runs == {
        str(workspace.run_id(f"dataset-{n}", "1")): {"dataset_version": f"dataset-{n}", "model_version": "1"} for n in (1, 2)
    }
    panels = httpx.get(f"{ui}/api/v2/dashboards/{workspace.PROJECT_ID}").json()["panels"]
    asked = {tuple(value["metric_labels"].items()): value for panel in panels for value in panel["values"]}
    filters = [asked[()], asked[(("name", TEXT), ("of", "value"))]]
    answer = httpx.post(f"{ui}/api/v2/snapshots/{workspace.PROJECT_ID}/data_series_batch", json={"series_filter": filters})
    assert [series["values"] for series in answer.json()["series"]] == [[0.0, 0.0], [0.1, 0.2]]


def _publish(folder: Path, number: int) -> None:
    end = shop.week(14 + number)
    windows = choose_windows(end, end - timedelta(days=7), interval_days=7, reference_days=28, first_event=shop.week(0))
    reference, current = describe(shop.events(), shop.catalog(), windows)
    text = Check(TEXT, Kind.TEXT, number / 10, 0.5, False, 0.1, "mmd", (0.1,))
    checks = (text, *check_columns(reference, current, psi_threshold=0.3, unusual_ratio=1.5))
    movers = pd.DataFrame({"before": [0.1], "now": [0.2], "title": ["Mug"]})
    quality = pd.DataFrame(columns=["start", "model_version", "requests", "hit_rate", "click_rate", "fallbacks"])
    decision = decide(checks, drift_share=0.25, strong_psi=0.5)
    which = {"dataset_version": f"dataset-{number}", "model_version": "1"}
    snapshot = build_report(Watched(checks, decision, reference, current, movers, quality), windows, **which)
    workspace.add_run(snapshot, folder, [check.name for check in checks if check.kind is Kind.COLUMN], **which)


def _until(holds: object) -> None:
    end = time.monotonic() + SECONDS
    while True:
        with contextlib.suppress(httpx.HTTPError, ValueError):
            if holds():  # type: ignore[operator]
                return
        assert time.monotonic() < end, f"not within {SECONDS} s"
        time.sleep(0.3)
