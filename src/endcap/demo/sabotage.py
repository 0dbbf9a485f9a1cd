"""What must not get through: a poisoned batch of events, and a candidate whose weights have the wrong sign."""

from __future__ import annotations

import shutil
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.config import Settings
from endcap.contracts import ModelKind
from endcap.errors import ReleaseError

if TYPE_CHECKING:
    from endcap.demo.shops import DemoShop


def land_poisoned_batch(settings: Settings, shop: DemoShop, start: datetime) -> str:
    """Land events with duplicated ids, prices in cents, times in the future and a broken column. Returns the batch's id."""
    import pandas as pd

    from endcap.pipeline import landing

    end = start + timedelta(days=7)
    day = shop.deliver(start, end)[0].to_pandas().head(400)
    day["event_id"] = "poisoned-" + day["event_id"]
    day["price"] *= 100  # cents where the contract says the shop's currency
    day.loc[:39, "event_id"] = day["event_id"].iloc[0]
    day.loc[40:59, "time"] = pd.Timestamp.now(tz="UTC") + pd.Timedelta(days=365)
    day["quantity"] = day["quantity"].astype(object)
    day.loc[60:79, "quantity"] = "a dozen"  # no number: breaks the schema
    landed = landing.land_tables(day, source="poisoned", start=start, end=end, settings=settings)
    return str(landed["batch_id"])


def register_spoiled_candidate(settings: Settings, dataset_version: str) -> dict[str, Any]:
    """Register the champion with its weights turned round, as a broken training run would have left it."""
    from endcap.release.registry import Registry

    registry = Registry(settings.mlflow_url)
    champion = registry.champion()
    if champion is None:
        raise ReleaseError("there is no champion to spoil", field="champion", action="Promote a model first.")
    source = registry.download(champion, settings.paths.models)
    with tempfile.TemporaryDirectory() as scratch:
        spoiled = Path(scratch) / "model"
        shutil.copytree(source, spoiled)
        _turn_round(spoiled)
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


def _turn_round(model: Path) -> None:
    """Negate the blend's weights, as a wrong sign would: what should come first comes last. Files stay well-formed."""
    from endcap.models.model_files import load_model, save_model

    recommender = load_model(model)
    recommender.weights = -recommender.weights
    save_model(recommender, model)
