"""The DAGs as Airflow reads them, loaded once."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="endcap-airflow-"))  # before the first import of Airflow


@pytest.fixture(scope="session")
def dags() -> dict[str, Any]:
    from endcap.stack.dag_pages import load_dags

    return load_dags(ROOT / "dags")
