"""### Let a candidate earn its place

**When**: after every registered candidate (asset `candidate`), or by hand.

**Steps**: evaluate the gates → require them (red when one failed: nobody is asked) → a person approves or rejects, with the
scorecard before them → promote: `@champion` moves and serving reloads. With `canary.enabled` it answers a growing part of the
shoppers before: red when rolled back, else a person has the last word. A rejection ends red; so does no answer within seven
days: a time-out never approves. Of queued candidates the newest is judged, the others are `superseded` (judge them by hand).

**Run again**: gates are judged anew and the record signed anew; a promoted version stays promoted, a canary goes on.

**Runbooks**: `docs/runbooks/gates-refused.md`, `docs/runbooks/canary-rolled-back.md`,
`docs/runbooks/airflow-away-or-task-stuck.md`
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param, dag, task

from canary_tasks import WHY_NOT, by_way_of_a_canary
from endcap.pipeline import canary, release
from loop import CANDIDATE, FINAL, RULES, from_all_events, from_event

PARAMS = {
    "model_version": Param(
        None, type=["null", "string"], pattern=r"^(model-)?\d+$", title="Model version",
        description="A version in the registry, such as `3` (`endcap models`). A run that a candidate started takes that one.",
    ),
}  # fmt: skip
SUBJECT = "Promote model {{ ti.xcom_pull('evaluate_gates', key='model_version') }}?"
SUMMARY = "{{ ti.xcom_pull('evaluate_gates', key='summary_markdown') }}"
BODY = SUMMARY + "\n\n[The whole scorecard]({{ ti.xcom_pull('evaluate_gates', key='report_url') }})"
PERSON = "{{ ti.xcom_pull('approve')['responded_by_user']['name'] }}"
REASON = "{{ ti.xcom_pull('approve')['params_input'].get('reason') or '' }}"


@task
def evaluate_gates(model_version: str, waiting: str) -> dict[str, Any]:
    superseded = release.set_aside(waiting.split(","), newest=model_version)
    return {**release.evaluate_gates(model_version), "superseded": superseded}


@task(**FINAL)
def require_gates(model_version: str) -> None:
    release.require_gates(model_version)


@task.branch
def decide(answer: dict[str, Any], model_version: str) -> str:
    approved = answer["chosen_options"] == ["Approve"]
    return "reject" if not approved else "start_canary" if canary.wanted(model_version) else "promote"


@task
def promote(model_version: str, approved_by: str) -> Any:
    return release.promote(model_version, approved_by)


@task(**FINAL)
def reject(model_version: str, rejected_by: str, why: str) -> None:
    release.reject(model_version, rejected_by, why)


@dag(schedule=[CANDIDATE], params=PARAMS, doc_md=__doc__, tags=["endcap", "release"],
     max_active_runs=16, dagrun_timeout=timedelta(days=60), **RULES)  # fmt: skip
def promote_model() -> None:
    version = from_event("model_version")
    approve = HITLOperator(task_id="approve", subject=SUBJECT, body=BODY, options=["Approve", "Reject"], defaults=None,
                           params={"reason": WHY_NOT}, response_timeout=timedelta(days=7), execution_timeout=None,
                           retries=0)  # fmt: skip
    ways = [promote(version, PERSON), by_way_of_a_canary(version, PERSON), reject(version, PERSON, REASON)]
    evaluate_gates(version, from_all_events("model_version")) >> require_gates(version) >> approve
    decide(approve.output, version) >> ways


DAG = promote_model()
