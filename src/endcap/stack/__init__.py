"""The running stack on one machine: Airflow, MLflow, Evidently and the service under one supervisor.

Here belongs how parts are started, watched and stopped. What they do lives in `dags/`, `serving/` and the parts themselves.
Production runs the same parts from docker/compose.yaml instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from endcap.progress import Progress, silent
from endcap.stack import control, secrets
from endcap.stack.control import down, status

if TYPE_CHECKING:
    from endcap.config import Settings

__all__ = ["down", "log_ins", "password", "status", "up"]


def up(settings: Settings, on_progress: Progress = silent, *, seconds: float = 180.0) -> float:
    """Start the stack and return when every part is well; `on_progress` hears how many parts are, and which is not yet."""
    states: dict[str, str] = {}

    def watch(name: str, state: str) -> None:
        states[name] = state
        waiting = [part for part, known in states.items() if known != "well"]
        on_progress(f"{len(states) - len(waiting)} parts are well" + (f", waiting for {waiting[0]}" if waiting else ""))

    return control.up(settings, watch, seconds=seconds)


def password(settings: Settings, user: str | None = None) -> str:
    """The Airflow password of `user` (default: the one that pipelines and the demo log in as)."""
    return secrets.airflow_password(settings, user)


def log_ins(settings: Settings) -> dict[str, str]:
    """Every generated log-in of Airflow and its password."""
    return secrets.airflow_passwords(settings)
