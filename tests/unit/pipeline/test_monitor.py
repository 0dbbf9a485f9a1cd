"""check_drift from a dataset version to its report. The registry is stood in for: it only hands out a model directory."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd  # noqa: TC002 - a real import, as pyarrow needs it
import pyarrow as pa
import pyarrow.parquet
import pytest
from tests.fixtures.release_exam import END, exam_events
from tests.fixtures.tiny_model import START, UNTIL, build_tiny_model, tiny_catalog

from endcap.config import Settings
from endcap.contracts import ModelVersion, catalog_schema, dataset_event_schema
from endcap.data.events import EventLog
from endcap.data.partitions import write_partitions
from endcap.data.versions import DatasetRepository
from endcap.monitoring import workspace
from endcap.pipeline import monitor

CHAMPION = ModelVersion("3", "full", "dataset-1", "c0de", "9a9a", "d1" * 32, "run1")


@dataclasses.dataclass
class Shelf:
    """A registry with one model, or none."""

    model: Path | None

    def __call__(self, url: str) -> Shelf:
        return self

    def champion(self) -> ModelVersion | None:
        return CHAMPION if self.model else None

    def get(self, version: str) -> ModelVersion:
        return dataclasses.replace(CHAMPION, version=version)

    def download(self, version: ModelVersion, models: Path) -> Path:
        assert self.model
        return self.model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def shelf(model: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    shelf = Shelf(model)
    monkeypatch.setattr("endcap.release.registry.Registry", shelf)
    return shelf


@pytest.fixture
def commit(settings: Settings) -> Callable[[pd.DataFrame], str]:
    """Makes the next dataset version from events."""
    repository = DatasetRepository(settings.paths, settings.dvc_remote_url)

    def commit(events: pd.DataFrame) -> str:
        def write(folder: Path) -> dict[str, Any]:
            table = pa.Table.from_pandas(events[dataset_event_schema().names], dataset_event_schema(), preserve_index=False)
            write_partitions(table, folder)
            items = pa.Table.from_pandas(tiny_catalog()[catalog_schema().names], catalog_schema(), preserve_index=False)
            (folder / "catalog.parquet").unlink(missing_ok=True)
            pa.parquet.write_table(items, folder / "catalog.parquet")
            return {
                "interval_start": START,
                "interval_end": END,
                "events": len(events),
                "users": events["user_id"].nunique(),
                "items": events["item_id"].nunique(),
                "added_events": len(events),
            }

        return repository.commit(f"file-{len(repository.versions())}", write).version

    return commit


def _triple_prices(events: pd.DataFrame) -> pd.DataFrame:
    return events.assign(price=events["price"].where(events["time"] < UNTIL, events["price"] * 3))


def test_without_a_champion_nothing_is_compared(shelf: Shelf, commit: Callable[[pd.DataFrame], str]) -> None:
    shelf.model = None
    version = commit(exam_events())
    check = monitor.check_drift(version)
    assert (check["drifted"], check["skipped"], check["dataset_version"]) == (False, "no champion yet", version)
    assert monitor.update_wanted(check, "run-1") is False


def test_too_little_history_is_said(shelf: Shelf, commit: Callable[[pd.DataFrame], str]) -> None:
    events = exam_events()
    check = monitor.check_drift(commit(events[events["time"] >= UNTIL]))
    assert check["drifted"] is False
    assert "too little history" in check["skipped"]


def test_a_check_is_published_and_a_rerun_replaces_it(
    shelf: Shelf, commit: Callable[[pd.DataFrame], str], settings: Settings
) -> None:
    version = commit(_triple_prices(exam_events()))
    first, again = monitor.check_drift(version), monitor.check_drift("latest")
    assert first == again
    assert first["drifted"]
    assert any("price moved" in reason for reason in first["reasons"])
    assert first["interval"] == [UNTIL.isoformat(), END.isoformat()]
    assert first["date"] == "2011-11-14"
    assert first["report_url"] == f"{settings.reports_url}/drift/{version}/index.html"
    page = settings.paths.reports / "drift" / version / "index.html"
    assert "price moved" in page.read_text(encoding="utf-8")
    runs = list((settings.paths.evidently / str(workspace.PROJECT_ID) / "snapshots").iterdir())
    assert [run.stem for run in runs] == [str(workspace.run_id(version, "3"))]
    assert monitor.past_checks() == [json.loads(json.dumps(first))]
    assert first["ui_url"].endswith(workspace.run_path(version, "3"))
    assert monitor.update_wanted(first, "run-1") is True
    assert monitor.update_wanted(first, "run-1") is True
    assert monitor.update_wanted(first, "run-2") is False
    assert monitor.update_wanted({**first, "dataset_version": "dataset-9"}, "run-3") is False


def test_what_shoppers_bought_of_what_was_shown_is_in_the_report(
    shelf: Shelf, commit: Callable[[pd.DataFrame], str], settings: Settings
) -> None:
    events = exam_events()
    newest = events[events["time"] >= UNTIL].drop_duplicates("user_id").head(20)
    log = EventLog(settings.event_log_url)
    log.create()
    log.append_exposures(
        [
            {
                "request_id": f"req-{place}",
                "user_id": row.user_id,
                "surface": "home",
                "time": row.time.to_pydatetime() - timedelta(minutes=5),
                "item_id": row.item_id if place % 2 else "item23",
                "rank": 1,
                "score": 1.0,
                "propensity": 1.0,
                "policy": "greedy",
                "model_version": "3",
                "fallback": False,
            }
            for place, row in enumerate(newest.itertuples())
        ]
    )
    log.close()
    check = monitor.check_drift(commit(events), "3")
    assert any("Request ids are of the service's form" in warning for warning in check["warnings"])
    page = settings.paths.reports / check["exposures_url"].removeprefix(settings.reports_url + "/")
    assert "Request ids" in page.read_text(encoding="utf-8")
    online = [one for one in check["checks"] if one["kind"] == "online"]
    told = [(one["name"], one["value"], one["drifted"]) for one in online]
    assert told == [("hit rate", 0.5, False), ("click rate", 0.5, False)]  # who buys has acted on it
