"""The reports that the plugin serves: files below one folder, for whoever is logged in, and nothing else."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def plugin(home: Path) -> Any:
    spec = importlib.util.spec_from_file_location("endcap_plugin", ROOT / "plugins" / "endcap_plugin.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def reports(plugin: Any, home: Path) -> Any:
    (home / "reports" / "gates" / "model-1").mkdir(parents=True)
    (home / "reports" / "gates" / "model-1" / "index.html").write_text("scorecard")
    (home / "secret.txt").write_text("secret")
    (home / "reports" / "way-out").symlink_to(home / "secret.txt")
    return plugin.Reports(home / "reports")


@pytest.mark.parametrize("path", ["/gates/model-1/", "/gates/model-1/index.html"])
def test_serves_a_report(reports: Any, path: str) -> None:
    answer = reports.find(path)
    assert answer.status_code == 200
    assert Path(answer.path).read_text() == "scorecard"
    assert "connect-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/gates/..%2f..%2fsecret.txt",
        "/way-out",
        "//etc/passwd",
        "/a%00b",
        "/" + "a" * 5000,
        "/none/",
    ],
)
def test_nothing_outside_the_folder(reports: Any, path: str) -> None:
    assert reports.find(path).status_code == 404


def test_lists_a_folder_and_escapes_names(reports: Any, home: Path) -> None:
    (home / "reports" / "<b>x").mkdir()
    page = reports.find("/").body.decode()
    assert "gates" in page
    assert "<b>x" not in page


def test_a_folder_without_slash_moves_on(reports: Any) -> None:
    answer = reports.find("/gates/model-1")
    assert (answer.status_code, answer.headers["location"]) == (307, "/endcap/reports/gates/model-1/")


@pytest.mark.parametrize(("accept", "status"), [("text/html", 307), ("*/*", 401)])
def test_a_stranger_is_sent_to_the_log_in(
    reports: Any, monkeypatch: pytest.MonkeyPatch, plugin: Any, accept: str, status: int
) -> None:
    async def nobody(request: Any) -> bool:
        return False

    monkeypatch.setattr(plugin, "_logged_in", nobody)
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/endcap/reports/gates/model-1/index.html", "root_path": ""}
    scope |= {
        "query_string": b"",
        "headers": [(b"accept", accept.encode()), (b"host", b"x")],
        "scheme": "http",
        "server": ("x", 80),
    }
    asyncio.run(reports(scope, None, send))
    assert sent[0]["status"] == status
    assert b"scorecard" not in b"".join(message.get("body", b"") for message in sent)
