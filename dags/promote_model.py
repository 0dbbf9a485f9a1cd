"""### Let a candidate earn its place

**When**: after every registered candidate (asset `candidate`), or by hand.

**Steps**: evaluate the gates → require them (red when one failed: nobody is asked) → a person approves or rejects, with the
scorecard before them → promote: `@champion` moves and serving reloads. Reject ends red, with the name of who rejected.
No answer within seven days ends red, too: a time-out never approves. Of candidates that queue up for one run the newest is
judged; the others are marked `superseded` in the registry, and can be judged by hand.

**Run again**: gates are judged anew and the record signed anew; a promoted version stays promoted.

**Runbooks**: `docs/runbooks/gates-refused.md`, `docs/runbooks/airflow-away-or-task-stuck.md`
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param, dag, task

from endcap.pipeline import release
from loop import CANDIDATE, FINAL, RULES, from_all_events, from_event

PARAMS = {
    "model_version": Param(
        None,
        type=["null", "string"],
        pattern=r"^(model-)?\d+$",
        title="Model version",
        description="A version in the registry, such as `3` (`endcap models`). A run that a candidate started takes that one.",
    ),
}
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
def decide(answer: dict[str, Any]) -> str:
    return "promote" if answer["chosen_options"] == ["Approve"] else "reject"


@task
def promote(model_version: str, approved_by: str) -> Any:
    return release.promote(model_version, approved_by)


@task(**FINAL)
def reject(model_version: str, rejected_by: str, why: str) -> None:
    release.reject(model_version, rejected_by, why)


@dag(schedule=[CANDIDATE], params=PARAMS, doc_md=__doc__, tags=["endcap", "release"],
     max_active_runs=16, dagrun_timeout=timedelta(days=8), **RULES)  # fmt: skip
def promote_model() -> None:
    version = from_event("model_version")
    approve = HITLOperator(task_id="approve", subject=SUBJECT, body=BODY, options=["Approve", "Reject"], defaults=None,
                           params={"reason": Param(None, type=["null", "string"], title="Reason",
                                                   description="Optional; kept with a rejection.")},
                           response_timeout=timedelta(days=7), execution_timeout=None, retries=0)  # fmt: skip
    evaluate_gates(version, from_all_events("model_version")) >> require_gates(version) >> approve
    decide(approve.output) >> [promote(version, PERSON), reject(version, PERSON, REASON)]


DAG = promote_model()
