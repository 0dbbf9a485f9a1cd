"""What a workspace's evaluation holds, as MLflow takes it."""

from __future__ import annotations

import json
from pathlib import Path

from endcap.release.candidate import read_curves, read_metrics


def test_metrics_are_flattened_and_only_numbers(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(
        json.dumps({"validation": {"ndcg@10": 0.25, "users": 12, "note": "text", "flag": True, "gap": float("nan")}})
    )

    assert read_metrics(path) == {"validation.ndcg_at_10": 0.25, "validation.users": 12.0}
    assert read_metrics(tmp_path / "missing.json") == {}


def test_curves_are_columns_over_steps(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    path.write_text("epoch,train_loss,validation_loss,stage\n0,5.5,6.0,a\n1,4.5,,b\n2,4.0,5.0,c\n")

    assert read_curves(path) == {"train_loss": [5.5, 4.5, 4.0], "validation_loss": [6.0, 5.0]}
    assert read_curves(tmp_path / "missing.csv") == {}
