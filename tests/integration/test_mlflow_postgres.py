"""The registry on MLflow as docker/compose.yaml runs it, with PostgreSQL below."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from tests.fixtures.tiny_model import build_tiny_model

from endcap.contracts import CHAMPION
from endcap.models.digest import digest
from endcap.release import promotion
from endcap.release.records import GATE, gate_record, to_tag
from endcap.release.registry import Registry
from endcap.release.signing import Keys

if TYPE_CHECKING:
    from tests.fixtures.production import Compose


@pytest.mark.postgres
def test_a_model_is_registered_judged_promoted_and_read_back(compose: Compose, tmp_path: Path) -> None:
    model, keys = build_tiny_model(tmp_path / "model"), Keys.load(tmp_path / "secrets")
    with compose.up("mlflow"):
        compose.wait_until_healthy("mlflow")
        registry = Registry(compose.mlflow_url)
        candidate = registry.register(
            model,
            kind="full",
            dataset_version="dataset-1",
            code_commit="c0de",
            code_tree="7ree",
            params_hash="9a9a",
            parent_version=None,
            metrics={"validation.ndcg_at_10": 0.25},
            curves={"train_loss": [3.0, 2.0, 1.5]},
            plots=None,
        )
        record = gate_record(candidate, passed=True, champion=None, checks={"size": True})
        registry.set_tags(candidate.version, {GATE: to_tag(keys.sign(record))})
        champion = promotion.promote(registry, keys, candidate.version, "ann")

        assert promotion.verified_champion(registry, keys) == champion
        assert digest(registry.download(champion, tmp_path / "read-back")) == digest(model)

    engine = sa.create_engine(compose.environment("mlflow")["MLFLOW_BACKEND_STORE_URI"], poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        aliases = connection.exec_driver_sql("SELECT alias, version FROM registered_model_aliases").all()
    assert [tuple(row) for row in aliases] == [(CHAMPION, int(champion.version))]
