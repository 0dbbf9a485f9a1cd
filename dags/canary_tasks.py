"""From a person's approval to champion by way of a canary: the tasks of `promote_model` when `canary.enabled`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import BaseSensorOperator, Param, PokeReturnValue, task

from endcap.pipeline import canary
from loop import FINAL

LOOK_EVERY = timedelta(minutes=5)
LONGEST = timedelta(days=45)
CONFIRMED_BY = "{{ ti.xcom_pull('confirm')['responded_by_user']['name'] }}"
WHY = "{{ ti.xcom_pull('confirm')['params_input'].get('reason') or '' }}"
SUBJECT = "Model {{ ti.xcom_pull('start_canary', key='model_version') }} came through its canary. Make it champion?"
BODY = """{{ ti.xcom_pull('follow_canary')['reason'] }}

It answers everybody by now. [All of it]({{ ti.xcom_pull('start_canary', key='report_url') }})"""
WHY_NOT = Param(None, type=["null", "string"], title="Reason", description="Optional; kept with a rejection.")


@task
def start_canary(model_version: str, approved_by: str) -> dict[str, Any]:
    """It begins in the shadow or at the first step; a rerun finds it running."""
    return canary.start(model_version, approved_by)


class FollowCanary(BaseSensorOperator):
    """Look, decide, and give the worker back until the next look. Red once the candidate was rolled back."""

    template_fields = ("model_version",)

    def __init__(self, *, model_version: str, **more: Any) -> None:
        super().__init__(mode="reschedule", poke_interval=LOOK_EVERY.total_seconds(), timeout=LONGEST.total_seconds(), **more)
        self.model_version = model_version

    def poke(self, context: Any) -> PokeReturnValue:
        told = canary.follow(self.model_version)
        self.log.info("%s %s", told.get("summary", ""), told["reason"])
        for name in ("state", "share", "reason", "report_url"):
            if name in told:
                context["ti"].xcom_push(name, told[name])
        return PokeReturnValue(told["over"], told)


@task.short_circuit
def last_word_wanted(told: dict[str, Any]) -> bool:
    """A canary that a person confirms has passed; without a last word it is promoted by now."""
    return bool(told["state"] == "passed")


@task.branch
def conclude(answer: dict[str, Any]) -> str:
    return "crown" if answer["chosen_options"] == ["Promote"] else "refuse"


@task
def crown(model_version: str, confirmed_by: str) -> dict[str, Any]:
    return canary.crown(model_version, confirmed_by)


@task(**FINAL)
def refuse(model_version: str, refused_by: str, why: str) -> None:
    canary.refuse(model_version, refused_by, why)


def by_way_of_a_canary(model_version: str, approved_by: str) -> Any:
    """start_canary → follow_canary → a person's last word → crown or refuse. Returns the first task."""
    started = start_canary(model_version, approved_by)
    followed = FollowCanary(task_id="follow_canary", model_version=model_version)
    confirm = HITLOperator(task_id="confirm", subject=SUBJECT, body=BODY, options=["Promote", "Roll back"], defaults=None,
                           params={"reason": WHY_NOT}, response_timeout=timedelta(days=7), execution_timeout=None,
                           retries=0)  # fmt: skip
    started >> followed
    last_word_wanted(followed.output) >> confirm
    conclude(confirm.output) >> [crown(model_version, CONFIRMED_BY), refuse(model_version, CONFIRMED_BY, WHY)]
    return started
