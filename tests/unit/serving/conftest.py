"""A service over a real event log and real signatures; champions come from a folder instead of MLflow."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from endcap.config import Params, Settings
from endcap.contracts import ModelVersion, catalog_schema
from endcap.data.events import EventLog
from endcap.errors import RegistryError, ServiceUnavailable
from endcap.models.digest import digest
from endcap.models.history import Floats, History
from endcap.release.records import GATE, PROMOTION, gate_record, promotion_record, to_tag
from endcap.release.signing import Keys
from endcap.serving.app import create_app
from endcap.serving.service import Service

ITEMS = ["mug", "plate", "bowl", "spoon", "fork"]
NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)


class CountingModel:
    """Score = a fixed base, + 10 for each time the item is in the history."""

    def __init__(self, item_ids: Sequence[str], base: Sequence[float]) -> None:
        self.item_ids, self.base_I = list(item_ids), np.array(base, dtype=np.float32)

    @classmethod
    def load(cls, directory: Path) -> CountingModel:
        config = json.loads((directory / "config.json").read_text())
        return cls(config["items"], config["base"])

    @property
    def item_vectors(self) -> Floats:
        return np.eye(len(self.item_ids), dtype=np.float32)

    def score(self, histories: Sequence[History], now: datetime, surface: str = "") -> Floats:
        own = [[10.0 * np.sum(history.item_ids == item) for item in self.item_ids] for history in histories]
        return (self.base_I + np.array(own).reshape(len(histories), -1)).astype(np.float32)

    def score_parts(self, histories: Sequence[History], now: datetime, surface: str = "") -> dict[str, Floats]:
        return {"recent": np.repeat(self.base_I[None, :], len(histories), axis=0)}


def write_model(directory: Path, base: Sequence[float] = (5, 4, 3, 2, 1), items: Sequence[str] = tuple(ITEMS)) -> Path:
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps({"items": list(items), "base": list(base)}))
    rows = {
        "item_id": list(items),
        "title": [f"A {item}" for item in items],
        "category": ["crockery" if item in ("mug", "plate", "bowl") else "cutlery" for item in items],
        "brand": [None] * len(items),
        "price": [float(10 * (place + 1)) for place in range(len(items))],
    }
    pq.write_table(pa.table(rows), directory / "items.parquet")
    return directory


class Shelf:
    """A registry of folders: `publish` makes a version champion. `away` and `alias` play what can go wrong."""

    def __init__(self, root: Path, keys: Keys) -> None:
        self.root, self.keys = root, keys
        self.away = False
        self.alias: ModelVersion | None = None

    def publish(self, number: int, base: Sequence[float] = (5, 4, 3, 2, 1), *, passed: bool = True) -> ModelVersion:
        directory = write_model(self.root / str(number), base)
        bare = ModelVersion(
            version=str(number),
            kind="full",
            dataset_version="dataset-1",
            code_commit="abc",
            params_hash="def",
            digest=digest(directory),
            run_id="run",
        )
        gate = self.keys.sign(gate_record(bare, passed=passed, champion=None, checks={"quality": passed}))
        promotion = self.keys.sign(promotion_record(bare, gate, "ada"))
        return self.retag(bare, {GATE: to_tag(gate), PROMOTION: to_tag(promotion)})

    def retag(self, version: ModelVersion, tags: dict[str, str]) -> ModelVersion:
        from dataclasses import replace

        self.alias = replace(version, tags=tags)
        return self.alias

    def champion(self) -> ModelVersion | None:
        if self.away:
            raise ServiceUnavailable("MLflow does not answer", field="ENDCAP_MLFLOW_URL")
        return self.alias

    def canaries(self) -> tuple[ModelVersion | None, ModelVersion | None]:
        if self.away:
            raise ServiceUnavailable("MLflow does not answer", field="ENDCAP_MLFLOW_URL")
        return None, None

    def download(self, version: ModelVersion, models: Path) -> Path:
        target = models / version.version
        if not target.exists():
            shutil.copytree(self.root / version.version, target)
        if digest(target) != version.digest:
            raise RegistryError("the downloaded model is not the one that was registered", field="digest")
        return target


@pytest.fixture
def shelf(settings: Settings, tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf", Keys.load(settings.paths.secrets))


@pytest.fixture
def service(settings: Settings, params: Params, shelf: Shelf) -> Service:
    """Not started; its store is checked by hand (`service.models.check()`)."""
    quiet = params.model_copy(update={"serving": params.serving.model_copy(update={"reload_seconds": 3600.0})})
    return Service(settings, quiet, shelf, CountingModel.load)


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(create_app(service=service), raise_server_exceptions=False) as client:
        yield client


def catalogue(items: Sequence[str] = tuple(ITEMS)) -> pa.Table:
    rows = [
        {"item_id": item, "title": f"A {item}", "category": "all", "available_from": NOW, "updated_at": NOW} for item in items
    ]
    return pa.Table.from_pylist(rows, schema=catalog_schema())


def event(number: int, item: str = "mug", **more: object) -> dict[str, object]:
    return {
        "event_id": f"e{number}",
        "type": "purchase",
        "user_id": "u1",
        "item_id": item,
        "time": "2026-01-10T10:00:00Z",
        "quantity": 1,
        "price": 2.5,
        **more,
    }


def in_threads(work: object, count: int) -> list[threading.Thread]:
    threads = [threading.Thread(target=work) for _ in range(count)]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    return threads


@pytest.fixture
def log(settings: Settings) -> EventLog:
    log = EventLog(settings.event_log_url)
    log.create()
    return log
