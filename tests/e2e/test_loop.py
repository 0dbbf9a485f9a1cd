"""The whole loop on a small simulated shop: what the summary promises is there, and the laws of the loop held."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Played

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1200)]


def test_the_summary_tells_the_whole_story(played: Played) -> None:
    summary = played.summary
    assert summary["shop"] == "simulated"
    assert [v["version"] for v in summary["dataset_versions"]] == ["dataset-1", "dataset-2"]
    kinds = [(m["version"], m["kind"], m["dataset_version"]) for m in summary["model_versions"]]
    assert kinds[:2] == [("1", "full", "dataset-1"), ("2", "incremental", "dataset-2")]
    assert {row["model"] for row in summary["weekly"]} >= {"champion v1, frozen", "champion, updated", "own purchase counts"}
    assert all(0 <= row["ndcg_at_10"] <= 1 and row["users"] > 0 for row in summary["weekly"])
    assert all(gap["low"] <= gap["difference"] <= gap["high"] for gap in summary["intervals"])
    assert summary["drift"][0]["report"].startswith("http")
    assert {"stack_up", "history", "first_training", "first_promotion"} <= set(summary["seconds"])
    assert (played.settings.paths.demo / "weekly.png").stat().st_size > 10_000


def test_a_poisoned_batch_lies_in_quarantine_whole_and_changed_nothing(played: Played) -> None:
    [quarantined] = played.summary["quarantined"]
    folder = played.settings.paths.quarantine / quarantined["batch"]
    reasons = json.loads((folder / "reason.json").read_text(encoding="utf-8"))["reasons"]
    said = " ".join(reasons).lower()
    assert all(word in said for word in ("event_id", "quantity", "time", "price")), reasons
    assert httpx.get(quarantined["report"], follow_redirects=False).status_code in {200, 302, 303, 307, 401}


def test_a_spoiled_candidate_was_refused_by_the_gates(played: Played) -> None:
    [refused] = played.summary["refused_candidates"]
    assert "NDCG@10 against the champion" in refused["failed_gates"]
    assert refused["version"] != played.summary["champion"]


def test_the_champion_serves_and_every_shown_item_is_logged(played: Played) -> None:
    service = played.settings.serving_url
    answer = httpx.post(f"{service}/v1/recommendations", json={"user_id": "shopper-1", "k": 5, "explain": True}).json()
    assert answer["model_version"] == played.summary["champion"]
    assert answer["fallback"] is False
    assert len(answer["items"]) == 5
    traced = played.endcap("lineage", answer["request_id"], "--json")
    assert traced.returncode == 0, traced.stderr
    chain = json.dumps(json.loads(traced.stdout))
    for link in (answer["request_id"], played.summary["model_versions"][-1]["dataset_version"], "operator"):
        assert link in chain


def test_a_champion_rebuilds_from_its_lineage(played: Played) -> None:
    rebuilt = played.endcap("reproduce", "1")
    assert rebuilt.returncode == 0, rebuilt.stdout + rebuilt.stderr


def test_the_demo_run_again_goes_on_from_what_it_finds(played: Played) -> None:
    again = played.endcap("demo")
    assert again.returncode == 0, again.stderr
    assert "done before" in again.stdout
    summary = json.loads((played.settings.paths.demo / "summary.json").read_text(encoding="utf-8"))
    assert summary["champion"] == played.summary["champion"]
    assert len(summary["dataset_versions"]) == len(played.summary["dataset_versions"])


def test_rollback_returns_to_the_previous_verified_champion(played: Played) -> None:
    before = played.summary["champion"]
    done = played.endcap("rollback", "--by", "operator", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert before == "2"
    for _ in range(60):
        state = httpx.get(f"{played.settings.serving_url}/v1/model").json()
        if state["model_version"] == "1":
            break
        time.sleep(0.5)
    assert state["model_version"] == "1", state
