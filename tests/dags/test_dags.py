"""The arrows that protect shoppers, and what every DAG owes its users."""

from __future__ import annotations

import inspect
import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["ingest_events", "monitor_models", "promote_model", "retrain_full", "update_incremental"]
HEAVY = {"torch", "pandas", "numpy", "mlflow", "transformers", "great_expectations", "evidently", "sklearn"}


def above(dag: Any, task_id: str) -> set[str]:
    return set(dag.get_task(task_id).get_flat_relative_ids(upstream=True))


def test_one_dag_a_file_named_like_it(dags: dict[str, Any]) -> None:
    assert sorted(dags) == NAMES
    for name in NAMES:
        assert len((ROOT / "dags" / f"{name}.py").read_text().splitlines()) <= 80, "a DAG is a diagram"


def test_reading_the_files_loads_nothing_heavy() -> None:
    code = f"""
import sys; sys.path.insert(0, "dags")
import {", ".join(NAMES)}
print(*sorted({HEAVY!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", ["retrain_full", "update_incremental"])
def test_training_tasks_are_the_stages_of_dvc(dags: dict[str, Any], name: str) -> None:
    stages = list(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
    if name == "retrain_full":
        stages.insert(stages.index("train"), "tune")
    chain = ["make_workspace", *stages, "register_candidate"]
    assert sorted(dags[name].task_ids) == sorted(chain)
    for before, after in itertools.pairwise(chain):
        assert before in dags[name].get_task(after).upstream_task_ids
    assert {dags[name].get_task(stage).pool for stage in stages} == {"training"}


def test_trials_are_asked_for_in_the_form_and_none_by_default(dags: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from jinja2 import Environment

    from endcap.pipeline import tune

    one = dags["retrain_full"].get_task("tune")
    asked = []
    monkeypatch.setattr(tune, "tune_workspace", lambda workspace, trials: asked.append((workspace, trials)))
    given = dags["retrain_full"].params.get_param("tune_trials").value
    one.python_callable("w", Environment(autoescape=False).from_string(one.op_args[1]).render(params={"tune_trials": given}))
    assert asked == [("w", 0)]


def test_promotion_hangs_on_the_gates_and_on_a_person(dags: dict[str, Any]) -> None:
    dag = dags["promote_model"]
    assert above(dag, "promote") == {"evaluate_gates", "require_gates", "approve", "decide"}
    assert dag.get_task("promote").upstream_task_ids == {"decide"}
    assert dag.get_task("approve").upstream_task_ids == {"require_gates"}, "nobody is asked about a model that failed"


@pytest.mark.parametrize("name", NAMES)
def test_no_task_runs_after_a_failure_above_it(dags: dict[str, Any], name: str) -> None:
    assert {task.task_id: task.trigger_rule for task in dags[name].tasks if task.trigger_rule != "all_success"} == {}


def test_a_time_out_never_approves(dags: dict[str, Any]) -> None:
    approve = dags["promote_model"].get_task("approve")
    assert approve.options == ["Approve", "Reject"]
    assert not approve.defaults
    assert approve.response_timeout.total_seconds() > 0
    assert "summary_markdown" in approve.body
    assert "report_url" in approve.body


@pytest.mark.parametrize(
    ("chosen", "then"), [(["Approve"], "promote"), (["Reject"], "reject"), ([], "reject"), (["Approve", "Reject"], "reject")]
)
def test_only_approve_promotes(dags: dict[str, Any], chosen: list[str], then: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from endcap.pipeline import canary

    decide = dags["promote_model"].get_task("decide")
    for wanted, way in ((False, "promote"), (True, "start_canary")):
        monkeypatch.setattr(canary, "wanted", lambda version, wanted=wanted: wanted)
        assert decide.python_callable({"chosen_options": chosen}, "3") == (way if then == "promote" else then)


def test_a_canary_hangs_on_the_same_approval_and_ends_with_a_persons_word(dags: dict[str, Any]) -> None:
    dag = dags["promote_model"]
    approved = {"evaluate_gates", "require_gates", "approve", "decide"}
    assert above(dag, "start_canary") == approved
    assert dag.get_task("start_canary").upstream_task_ids == {"decide"}
    assert above(dag, "crown") == approved | {"start_canary", "follow_canary", "last_word_wanted", "confirm", "conclude"}
    assert above(dag, "refuse") == above(dag, "crown")
    confirm = dag.get_task("confirm")
    assert (confirm.options, confirm.defaults) == (["Promote", "Roll back"], None)
    assert confirm.response_timeout.total_seconds() > 0


@pytest.mark.parametrize(
    ("chosen", "then"),
    [(["Promote"], "crown"), (["Roll back"], "refuse"), ([], "refuse"), (["Promote", "Roll back"], "refuse")],
)
def test_only_promote_crowns(dags: dict[str, Any], chosen: list[str], then: str) -> None:
    assert dags["promote_model"].get_task("conclude").python_callable({"chosen_options": chosen}) == then


def test_a_canary_is_followed_without_holding_a_worker(dags: dict[str, Any]) -> None:
    follow = dags["promote_model"].get_task("follow_canary")
    assert (follow.mode, follow.soft_fail, follow.silent_fail) == ("reschedule", False, False)
    assert follow.poke_interval >= 60
    assert dags["promote_model"].dagrun_timeout.total_seconds() > follow.timeout + 14 * 86_400, "and two persons' answers"


def test_every_look_says_state_and_reason(dags: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from endcap.errors import ReleaseError
    from endcap.pipeline import canary

    class Instance:
        def __init__(self) -> None:
            self.said: dict[str, Any] = {}

        def xcom_push(self, key: str, value: Any) -> None:
            self.said[key] = value

    dag = dags["promote_model"]
    follow = dag.get_task("follow_canary")
    told = {"state": "running", "share": 0.1, "reason": "12 h of at least 24 h", "report_url": "/canary", "over": False}
    monkeypatch.setattr(canary, "follow", lambda version: told)
    instance = Instance()
    assert not follow.poke({"ti": instance}).is_done
    assert instance.said == {key: told[key] for key in ("state", "share", "reason", "report_url")}
    monkeypatch.setattr(canary, "follow", lambda version: {"state": "unknown", "reason": "MLflow is away", "over": False})
    assert not follow.poke({"ti": instance}).is_done
    monkeypatch.setattr(canary, "follow", lambda version: told | {"state": "passed", "over": True})
    passed = follow.poke({"ti": instance})
    assert (passed.is_done, passed.xcom_value["state"]) == (True, "passed")

    def rolled_back(version: str) -> None:
        raise ReleaseError("was rolled back in its canary: clicks -10%")

    monkeypatch.setattr(canary, "follow", rolled_back)
    with pytest.raises(ReleaseError, match="clicks -10%"):
        follow.poke({"ti": instance})
    wanted = dag.get_task("last_word_wanted").python_callable
    assert wanted({"state": "passed"})
    assert not wanted({"state": "promoted"})


def test_a_rejected_batch_reaches_no_version(dags: dict[str, Any]) -> None:
    dag = dags["ingest_events"]
    assert above(dag, "version_dataset") == {"collect_batch", "validate_batch", "accept_or_quarantine", "clean_batch"}
    choose = dag.get_task("accept_or_quarantine").python_callable
    assert (choose(True), choose(False)) == ("clean_batch", "quarantine_batch")
    assert not dag.get_task("quarantine_batch").downstream_task_ids


def test_assets_join_the_loop(dags: dict[str, Any]) -> None:
    def outlets(name: str) -> set[str]:
        return {asset.name for task in dags[name].tasks for asset in task.outlets}

    def waits_for(name: str) -> set[str]:
        return {asset.name for asset in dags[name].schedule or []}

    assert {name: outlets(name) for name in NAMES} == {
        "ingest_events": {"dataset"},
        "monitor_models": {"drift"},
        "promote_model": set(),
        "retrain_full": {"candidate"},
        "update_incremental": {"candidate"},
    }
    assert {name: waits_for(name) for name in NAMES if waits_for(name)} == {
        "monitor_models": {"dataset"},
        "promote_model": {"candidate"},
        "update_incremental": {"drift"},
    }
    assert "update_wanted" in dags["monitor_models"].get_task("announce_drift").upstream_task_ids


@pytest.mark.parametrize("name", NAMES)
def test_a_failure_whose_message_is_the_point_is_not_tried_again(dags: dict[str, Any], name: str) -> None:
    final = {"quarantine_batch", "require_gates", "reject", "approve", "confirm", "refuse"}
    assert {task.task_id: task.retries for task in dags[name].tasks if (task.retries == 0) != (task.task_id in final)} == {}


@pytest.mark.parametrize("name", NAMES)
def test_docs_form_and_limits_are_complete(dags: dict[str, Any], name: str) -> None:
    dag = dags[name]
    for word in ("**When**", "**Steps**", "**Run again**", "**Runbooks**"):
        assert word in dag.doc_md
    for page in re.findall(r"docs/runbooks/[\w-]+\.md", dag.doc_md):
        assert (ROOT / page).exists(), page
    assert dag.dagrun_timeout
    assert dag.max_active_runs <= (16 if name == "promote_model" else 4), "approvals may wait for days; nothing else does"
    assert "endcap" in dag.tags
    assert list(dag.params), "a form to fill in"
    for key in dag.params:
        param = dag.params.get_param(key)
        assert param.schema["title"]
        assert param.description
    for task in dag.tasks:
        assert task.owner == "endcap"
        assert task.execution_timeout or task.response_timeout


def test_asset_events_say_what_the_run_is_about(dags: dict[str, Any]) -> None:
    """The template takes the newest event's extra, and the form's value when no event started the run."""
    from types import SimpleNamespace

    from jinja2 import Environment

    template = Environment(autoescape=False).from_string(dags["promote_model"].get_task("evaluate_gates").op_args[0])
    events = {"candidate": [SimpleNamespace(extra={"model_version": "3"}), SimpleNamespace(extra={"model_version": "4"})]}
    form = {"model_version": "9"}
    assert template.render(triggering_asset_events=events, params=form) == "4"
    assert template.render(triggering_asset_events={}, params=form) == "9"


def test_candidates_that_queue_for_one_run_are_set_aside_but_the_newest(
    dags: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from jinja2 import Environment

    from endcap.pipeline import release

    evaluate = dags["promote_model"].get_task("evaluate_gates")
    template = Environment(autoescape=False).from_string(evaluate.op_args[1])
    events = {"candidate": [SimpleNamespace(extra={"model_version": version}) for version in ("2", "3", "4")]}
    waiting = template.render(triggering_asset_events=events)
    asked = []

    def set_aside(versions: list[str], newest: str) -> list[str]:
        asked.append((versions, newest))
        return ["2", "3"]

    monkeypatch.setattr(release, "set_aside", set_aside)
    monkeypatch.setattr(release, "evaluate_gates", lambda version: {"model_version": version})

    assert evaluate.python_callable("4", waiting) == {"model_version": "4", "superseded": ["2", "3"]}
    assert asked == [(["2", "3", "4"], "4")]
    assert template.render(triggering_asset_events={}) == ""


def test_approvals_that_wait_do_not_block_the_next_candidates(dags: dict[str, Any]) -> None:
    assert dags["promote_model"].max_active_runs >= 16


def test_the_cooldown_knows_the_run(dags: dict[str, Any]) -> None:
    assert dags["monitor_models"].get_task("update_wanted").op_args[1] == "{{ run_id }}"


def test_the_generated_page_is_as_the_files_say(dags: dict[str, Any]) -> None:
    from endcap.stack.dag_pages import render

    assert (ROOT / "docs" / "dags.md").read_text() == render(dags), "run `make docs`"


def test_no_argument_has_a_name_that_airflow_keeps_for_itself(dags: dict[str, Any]) -> None:
    """Such a task parses and then fails at every run: "The key … in args is a part of kwargs and therefore reserved"."""
    from airflow.sdk.definitions.context import KNOWN_CONTEXT_KEYS

    for dag in dags.values():
        for one in dag.tasks:
            function = getattr(one, "python_callable", None)
            taken = {
                parameter.name
                for parameter in (inspect.signature(function).parameters.values() if function else ())
                if parameter.kind is not inspect.Parameter.KEYWORD_ONLY and parameter.name in KNOWN_CONTEXT_KEYS
            }
            assert not taken, f"{dag.dag_id}.{one.task_id}: {taken}"
