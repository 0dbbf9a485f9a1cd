"""Fixtures shared by all layers of tests. Real parts, started here; each test gets a home of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from endcap.config import Params, Settings, load_params, load_settings

SHARED = ("mlflow", "postgres", "stack", "redis", "production")  # one that others import stands before them
pytest_plugins = [f"tests.fixtures.{name}" for name in SHARED]

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The end-to-end tests first: with several workers they take longest."""
    items.sort(key=lambda item: _scope(item.nodeid) != "e2e")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several workers a file stays in one, and so do all end-to-end tests, which share one played demo."""
    from xdist.scheduler import LoadScopeScheduling

    class ByScope(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _scope(nodeid)

    return ByScope(config, log)


def _scope(nodeid: str) -> str:
    file = nodeid.split("::")[0]
    return "e2e" if file.startswith("tests/e2e/") else file


@pytest.fixture(scope="session")
def params() -> Params:
    """The project's own params.yaml."""
    return load_params(ROOT / "params.yaml")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh ENDCAP_HOME in the environment of this test; every other ENDCAP_ variable is cleared."""
    import os

    for key in [key for key in os.environ if key.startswith("ENDCAP_")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("ENDCAP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def settings(home: Path) -> Settings:
    """Settings that point below the test's own home."""
    return load_settings()
