"""Where the five DAGs meet: the assets they announce to each other and the rules they all keep."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, ExceptionRetryPolicy, RetryAction, RetryRule

from endcap.errors import ConfigError, InputError, ReleaseError

DATASET = Asset("dataset", uri="endcap://dataset", group="endcap")  # a new dataset version; extra: dataset_version
CANDIDATE = Asset("candidate", uri="endcap://candidate", group="endcap")  # a registered model; extra: model_version
DRIFT = Asset("drift", uri="endcap://drift", group="endcap")  # only when it drifted; extra: dataset_version

HOPELESS = RetryRule(exception=[ConfigError, InputError, ReleaseError], action=RetryAction.FAIL, reason="would fail again")
RULES: dict[str, Any] = {
    "catchup": False,
    "default_args": {
        "owner": "endcap",
        "retries": 2,  # every task may run again: it finds what it did before
        "retry_delay": timedelta(seconds=5),
        "retry_policy": ExceptionRetryPolicy(rules=[HOPELESS]),
        "execution_timeout": timedelta(minutes=30),
    },
}
FINAL: dict[str, Any] = {"retries": 0}  # for a task whose failure is the message

DATASET_PATTERN = r"^(latest|dataset-\d+)$"


def from_event(name: str) -> str:
    """A template: `name` as the newest asset event that started the run carries it, else as the form says."""
    event = f"(triggering_asset_events.values() | first | last).extra.{name}"
    return f"{{{{ {event} if triggering_asset_events else params.{name} }}}}"


def from_all_events(name: str) -> str:
    """A template: `name` of every event that started the run, oldest first, between commas; empty when none did."""
    each = f"(triggering_asset_events.values() | first | map(attribute='extra.{name}') | join(','))"
    return f"{{{{ {each} if triggering_asset_events else '' }}}}"
