"""What must not get through: a poisoned batch of events, and a candidate whose weights were scrambled."""

from __future__ import annotations

import shutil
import tempfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.config import Settings
from endcap.contracts import ModelKind
from endcap.errors import ReleaseError

if TYPE_CHECKING:
    from endcap.demo.shops import DemoShop


def land_poisoned_batch(settings: Settings, shop: DemoShop, start: datetime) -> str:
    """Land a day of the shop's events with duplicated ids, prices in cents, times in the future and a broken column. Returns its batch id."""
    import pandas as pd

    day = shop.frame(start, start + pd.Timedelta(days=7)).head(400).copy()
    day["event_id"] = "poisoned-" + day["event_id"]
    day["price"] = day["price"] * 100  # cents where the contract says the shop's currency
    day.iloc[:40, day.columns.get_loc("event_id")] = day["event_id"].iloc[0]
    day.iloc[40:60, day.columns.get_loc("time")] = pd.Timestamp.now(tz="UTC") + pd.Timedelta(days=365)
    day["quantity"] = day["quantity"].astype(object)
    day.iloc[60:80, day.columns.get_loc("quantity")] = "a dozen"  # not a number: breaks the schema
    return shop.land(settings, day, "poisoned")


def register_spoiled_candidate(settings: Settings, dataset_version: str) -> dict[str, Any]:
    """Register the champion with its weights scrambled, as a broken training run would have left it."""
    from endcap.release.registry import Registry

    registry = Registry(settings.mlflow_url)
    champion = registry.champion()
    if champion is None:
        raise ReleaseError("there is no champion to spoil", field="champion", action="Promote a model first.")
    source = registry.download(champion, settings.paths.models)
    with tempfile.TemporaryDirectory() as scratch:
        spoiled = Path(scratch) / "model"
        shutil.copytree(source, spoiled)
        _scramble(spoiled)
        version = registry.register(
            spoiled,
            kind=ModelKind.INCREMENTAL,
            dataset_version=dataset_version,
            code_commit=champion.code_commit,
            code_tree=champion.tags["code_tree"],
            params_hash=champion.params_hash,
            parent_version=champion.version,
            metrics={},
            tags={"note": "spoiled on purpose by the demo"},
        )
    return {"model_version": version.version, "kind": version.kind, "dataset_version": dataset_version}


def _scramble(model: Path) -> None:
    """Permute the item table: every score then belongs to another item. The files stay well-formed."""
    import pandas as pd

    path = model / "items.parquet"
    items = pd.read_parquet(path)
    items["item_id"] = items["item_id"].sample(frac=1, random_state=13).to_numpy()
    items.to_parquet(path)
