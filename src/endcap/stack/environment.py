"""The environment of the stack's processes: where state lives, what is switched off, what makes scheduling quick.

A variable that the user has set (`AIRFLOW__…`, `MLFLOW_…`, `OMP_NUM_THREADS`) wins over the value here.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from endcap.config import project_root
from endcap.stack.parts import HOST
from endcap.stack.secrets import PASSWORDS, USERS, make_secrets, read_secret

if TYPE_CHECKING:
    from endcap.config import Settings

MARK = "_ENDCAP_STACK"  # every process of a stack carries its home under this name, so that `down` finds all of them


def stack_environment(settings: Settings) -> dict[str, str]:
    """What every part inherits. Makes the secrets when they are missing."""
    make_secrets(settings.paths.secrets)
    inherited = {key: value for key, value in os.environ.items() if key not in _DROPPED}
    venv = str(Path(sys.executable).parent)
    path = os.pathsep.join([venv, inherited.get("PATH", os.defpath)])
    own = _endcap(settings) | {"PATH": path, MARK: str(settings.home)}
    return _quiet() | _mlflow(settings) | _airflow(settings) | inherited | own


_DROPPED = {"PYTHONDONTWRITEBYTECODE", "AIRFLOW_HOME", MARK}  # bytecode is cached: parts start in half the time


def _endcap(settings: Settings) -> dict[str, str]:
    set_values = {f"ENDCAP_{name.upper()}": str(value) for name, value in settings if value not in (None, "")}
    return set_values | {"ENDCAP_PROJECT": str(project_root())}


def _quiet() -> dict[str, str]:
    """No telemetry, no update checks; few threads and arenas, because the parts share the machine."""
    return {
        "DO_NOT_TRACK": "1",
        "DVC_NO_ANALYTICS": "1",
        "GX_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "MALLOC_ARENA_MAX": "2",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONUNBUFFERED": "1",
    }


def _mlflow(settings: Settings) -> dict[str, str]:
    home = settings.paths.mlflow
    return {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{home / 'mlflow.db'}",
        "MLFLOW_ARTIFACTS_DESTINATION": str(home / "artifacts"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "GIT_PYTHON_REFRESH": "quiet",
    }


def _airflow(settings: Settings) -> dict[str, str]:
    home, root = settings.paths, project_root()
    options = {
        "CORE__DAGS_FOLDER": root / "dags",
        "CORE__PLUGINS_FOLDER": root / "plugins",
        "CORE__LOAD_EXAMPLES": False,
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": 4,
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": False,
        "CORE__FERNET_KEY": read_secret(home.secrets / "airflow_fernet.key"),
        "CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in USERS.items()),
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": home.secrets / PASSWORDS,
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home.airflow / 'airflow.db'}",
        "API__BASE_URL": settings.airflow_url,
        "API__HOST": HOST,
        "API__PORT": settings.airflow_port,
        "API__SECRET_KEY": read_secret(home.secrets / "airflow_api.key"),
        "API__INSTANCE_NAME": "Endcap",
        "API__EXPOSE_CONFIG": False,
        "API_AUTH__JWT_SECRET": read_secret(home.secrets / "airflow_jwt.key"),
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0.3,  # seconds; the default of 1 is paid once between any two tasks
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": 60,
        "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": 20,  # the default of 300 is how long a run stands still after a crash
        "WORKERS__EXECUTION_API_TIMEOUT": 60,  # seconds; the default of 5 fails tasks on a machine that is busy training
        "WORKERS__EXECUTION_API_RETRIES": 8,  # about 90 s: the API server may be starting again
        "DAG_PROCESSOR__PARSING_PROCESSES": 1,
        "DAG_PROCESSOR__REFRESH_INTERVAL": 30,
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": 60,
        "DAG_PROCESSOR__PRINT_STATS_INTERVAL": 0,
        "DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": home.airflow / "bundles",
        "LOGGING__BASE_LOG_FOLDER": home.logs / "tasks",
        "LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": home.logs / "dag-processor",
        "LOGGING__COLORED_CONSOLE_LOG": False,
        "LOGGING__NAMESPACE_LEVELS": "http.access=WARNING",
    }
    return {"AIRFLOW_HOME": str(home.airflow)} | {f"AIRFLOW__{key}": str(value) for key, value in options.items()}
