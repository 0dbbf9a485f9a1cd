"""Figures of the scripts in benchmarks/ say where they were measured, with MLflow or without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.record import record

if TYPE_CHECKING:
    import pytest


def test_figures_are_kept_with_machine_code_and_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENDCAP_MLFLOW_PORT", "9")  # nobody answers there
    result = record("scale", {"items": 3, "machine_word": "a"}, tmp_path / "new" / "scale.json")
    assert json.loads((tmp_path / "new" / "scale.json").read_text()) == result
    assert {"items", "commit", "versions", "machine", "measured_at"} <= result.keys()
    told = capsys.readouterr()
    assert f"Wrote {tmp_path / 'new' / 'scale.json'}." in told.out
    assert "Not logged to MLflow" in told.err
