"""The parts of the stack: how each is started, where it answers and which signal stops it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from endcap.config import Settings

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Part:
    """One supervised process. `port` 0: it listens nowhere."""

    name: str
    command: tuple[str, ...]
    health: str  # URL that says whether it is well
    port: int = 0
    port_setting: str = ""  # the variable that moves it
    address: str = ""  # what a person opens
    stop_signal: str = "TERM"

    @property
    def of_airflow(self) -> bool:
        return self.name.startswith("airflow-")

    @property
    def component(self) -> str:
        """Its name in Airflow's health report."""
        return self.name.removeprefix("airflow-").replace("-", "_")


def stack_parts(settings: Settings) -> list[Part]:
    """All parts, in the order they are shown."""
    return [*_airflow(settings), _mlflow(settings), _evidently(settings), _serving(settings)]


def _airflow(settings: Settings) -> list[Part]:
    url = settings.airflow_url
    health = f"{url}/api/v2/monitor/health"
    port = settings.airflow_port
    server = ("api-server", "--host", HOST, "--port", str(port), "--workers", "1")
    silent = "--skip-serve-logs"  # logs lie in one folder; nobody needs a port to fetch them
    return [
        Part("airflow-api-server", _tool("airflow", *server), health, port, "ENDCAP_AIRFLOW_PORT", url, "INT"),
        Part("airflow-scheduler", _tool("airflow", "scheduler", silent), health, stop_signal="INT"),
        Part("airflow-dag-processor", _tool("airflow", "dag-processor"), health, stop_signal="INT"),
        Part("airflow-triggerer", _tool("airflow", "triggerer", silent), health, stop_signal="INT"),
    ]


def _mlflow(settings: Settings) -> Part:
    command = _tool("mlflow", "server", "--host", HOST, "--port", str(settings.mlflow_port), "--workers", "1")
    url = settings.mlflow_url
    return Part("mlflow", command, f"{url}/health", settings.mlflow_port, "ENDCAP_MLFLOW_PORT", url)


def _evidently(settings: Settings) -> Part:
    place = ("--host", HOST, "--port", str(settings.evidently_port), "--workspace", str(settings.paths.evidently))
    url = settings.evidently_url
    return Part(
        "evidently",
        _tool("evidently", "ui", *place),
        f"{url}/api/version",
        settings.evidently_port,
        "ENDCAP_EVIDENTLY_PORT",
        url,
    )


def _serving(settings: Settings) -> Part:
    command = (sys.executable, "-m", "endcap.cli", "serve", "--port", str(settings.serving_port))
    url = settings.serving_url
    return Part("serving", command, f"{url}/healthz", settings.serving_port, "ENDCAP_SERVING_PORT", url)


def _tool(name: str, *arguments: str) -> tuple[str, ...]:
    """A console script of this very environment, whatever PATH says."""
    return (str(Path(sys.executable).parent / name), *arguments)
