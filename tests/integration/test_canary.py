"""A canary over a real MLflow and a real service process: kill -9 changes nothing, and a roll back is followed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from tests.fixtures.mlflow import mlflow_server
from tests.integration.test_service import Process, Start, candidate, earn, start  # noqa: F401 - a fixture

from endcap.config import load_settings, project_root
from endcap.data.canary_log import CanaryLog
from endcap.errors import ReleaseError
from endcap.pipeline import canary
from endcap.release.records import GATE, gate_record, to_tag
from endcap.release.registry import Registry
from endcap.release.signing import Keys

GUARDS = {
    "clicks": {"better": "higher", "bar": -0.5, "scale": "relative", "ceiling": 1.0},
    "errors": {"better": "lower", "bar": 0.2, "scale": "absolute", "ceiling": 1.0},
}
STEP = {"share": 0.5, "slack": 1.0, "min_shoppers": 30, "min_hours": 0.0, "patience_hours": 1.0}


@pytest.fixture
def quick(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """params.yaml with one step at half the shop, a shadow before it, and a service that looks often."""
    params = yaml.safe_load((project_root() / "params.yaml").read_text())
    shadow = {"share": 1.0, "min_requests": 30, "min_hours": 0.0}
    params["canary"] |= {"enabled": True, "steps": [STEP], "guards": GUARDS, "shadow": shadow}
    params["serving"]["reload_seconds"] = 0.2
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.setenv("ENDCAP_PARAMS", str(tmp_path / "params.yaml"))
    return tmp_path / "params.yaml"


def ask(service: Process, user: str) -> dict[str, Any]:
    answer = httpx.post(f"{service.url}/v1/recommendations", json={"user_id": user, "k": 2}, timeout=20)
    return dict(answer.raise_for_status().json())


def endcap(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "endcap.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_canary_lives_in_mlflow_and_survives_kill_9(
    start: Start,  # noqa: F811
    home: Path,
    tmp_path: Path,
    quick: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = Keys.load(load_settings().paths.secrets)
    with mlflow_server(tmp_path / "mlflow") as url:
        monkeypatch.setenv("ENDCAP_MLFLOW_URL", url)
        registry = Registry(url)
        assert registry.canaries() == (None, None)
        first, second = (candidate(registry, tmp_path / f"model{seed}", seed) for seed in (1, 2))
        earn(registry, keys, first)
        assert canary.status() is None
        with pytest.raises(ReleaseError, match="there never was one"):
            canary.look()
        record = gate_record(second, passed=True, champion=first.version, checks={"quality": True})
        registry.set_tags(second.version, {GATE: to_tag(keys.sign(record))})

        began = canary.start(second.version, "ada")
        assert (began["state"], began["step"]) == ("running", -1)
        service = start(ENDCAP_MLFLOW_URL=url, ENDCAP_PARAMS=str(quick))
        service.wait_for(lambda state: state["model_version"] == first.version)
        service.wait_for(lambda state: state["held"], "/v1/canary")
        rows = CanaryLog(load_settings().event_log_url)
        number = 0
        while len(rows.shadows(began["canary"])) < 40:
            assert ask(service, f"s{number}")["model_version"] == first.version
            number += 1
        assert canary.look()["step"] == 0
        service.wait_for(lambda state: state["share"] == 0.5, "/v1/canary")
        answers = {f"u{number}": ask(service, f"u{number}") for number in range(40)}
        arms = {user: (answer["arm"], answer["model_version"]) for user, answer in answers.items()}
        assert set(arms.values()) == {("candidate", second.version), ("champion", first.version)}

        service.kill()
        service = start(ENDCAP_MLFLOW_URL=url, ENDCAP_PARAMS=str(quick))
        service.wait_for(lambda state: state["model_version"] == first.version)
        service.wait_for(lambda state: state["held"] and state["share"] == 0.5, "/v1/canary")
        again = {user: ask(service, user) for user in answers}
        assert {user: (answer["arm"], answer["model_version"]) for user, answer in again.items()} == arms
        kept = set(rows.requests(began["canary"], 0)["request_id"])
        assert kept >= {answer["request_id"] for answer in (*answers.values(), *again.values())}

        told = endcap("canary", "status")
        assert "answers 50 % of shoppers (step 1 of 1)" in told.stdout, told.stderr
        one = next(answer for answer in answers.values() if answer["arm"] == "candidate")
        lineage = endcap("lineage", one["request_id"])
        assert f"candidate of {began['canary']}" in lineage.stdout, lineage.stderr

        stopped = endcap("canary", "stop", "--yes", "--by", "bob", "--reason", "lanterns")
        assert stopped.returncode == 0, stopped.stderr
        assert registry.canaries()[0] is None
        state = service.wait_for(lambda state: not state["open"], "/v1/canary")
        assert state["reasons"] == ["lanterns"]
        assert {ask(service, user)["model_version"] for user in answers} == {first.version}
        assert registry.get(second.version).tags["status"] == "rolled back as a canary"
        rows.close()
