"""Fixtures shared by all layers of tests. Real parts, started here; each test gets a home of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from endcap.config import Params, Settings, load_params, load_settings

SHARED = ("mlflow", "postgres", "stack", "redis", "production")  # one that others import stands before them
pytest_plugins = [f"tests.fixtures.{name}" for name in SHARED]

ROOT = Path(__file__).resolve().parents[1]


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several workers: a file stays in one, and e2e, which shares one played demo, comes first: it takes longest."""
    items.sort(key=lambda item: _group(item) != "e2e")
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))


def _group(item: pytest.Item) -> str:
    return "e2e" if "e2e" in item.path.relative_to(ROOT).parts else str(item.path)


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
