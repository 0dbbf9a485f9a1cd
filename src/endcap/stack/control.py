"""Up, down and status of the whole stack."""

from __future__ import annotations

import contextlib
import fcntl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from endcap.errors import ConfigError, ServiceUnavailable
from endcap.stack.environment import MARK, stack_environment
from endcap.stack.health import ailments
from endcap.stack.parts import Part, stack_parts
from endcap.stack.processes import end_processes, require_free_port, stack_processes, tree_memory, wait_until_gone
from endcap.stack.supervisor import Supervisor

if TYPE_CHECKING:
    from pathlib import Path

    from endcap.config import Settings

DEAD = {"FATAL", "BACKOFF", "EXITED", "UNKNOWN"}
STOP_SECONDS = 40.0
Watch = Callable[[str, str], None]  # part, what is known of it now


@dataclass(frozen=True, slots=True)
class PartStatus:
    """What `endcap status` shows of one part. `problem` is empty when it is well."""

    name: str
    state: str
    address: str
    problem: str
    since: datetime | None
    memory_bytes: int

    @property
    def well(self) -> bool:
        return self.state == "running" and not self.problem


def up(settings: Settings, watch: Watch | None = None, *, seconds: float = 180.0) -> float:
    """Start what is not running and return when every part is well; returns the seconds it took. Idempotent.

    Raises:
        ConfigError: a port is in use, or the stack runs with other settings.
        ServiceUnavailable: a part died or is not well after `seconds`; everything this call started is stopped again.
    """
    began = time.monotonic()
    watch = watch or (lambda *_: None)
    parts, supervisor = stack_parts(settings), Supervisor(settings.paths)
    with _one_at_a_time(supervisor.directory):
        fresh = not supervisor.running()
        if fresh:
            _start_daemon(settings, parts, supervisor)
        elif supervisor.config.read_text(encoding="utf-8") != supervisor.render(parts):
            raise ConfigError(
                "the stack runs with other settings",
                field="ENDCAP_HOME",
                value=str(settings.home),
                action="Run `endcap down` first.",
            )
        try:
            _start_parts(settings, parts, supervisor, watch, began + seconds)
            _wait_until_well(settings, parts, supervisor, watch, began + seconds)
        except BaseException:
            if fresh:
                _stop(settings, supervisor)
            raise
    return time.monotonic() - began


def down(settings: Settings) -> int:
    """Stop every part and leave no process. Returns how many processes were running (0: the stack was down)."""
    supervisor = Supervisor(settings.paths)
    with _one_at_a_time(supervisor.directory):
        return _stop(settings, supervisor)


def status(settings: Settings) -> list[PartStatus]:
    """Every part as it is now."""
    parts, supervisor = stack_parts(settings), Supervisor(settings.paths)
    records = supervisor.processes()
    running = [part for part in parts if records.get(part.name, {}).get("pid")]
    problems = ailments(running, settings)
    return [_status(part, records.get(part.name), problems.get(part.name, "")) for part in parts]


def log_tail(path: Path, lines: int) -> list[str]:
    """The last lines of a log; empty when there is none."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 400 * lines))
        return file.read().decode(errors="replace").splitlines()[-lines:]


def _status(part: Part, record: dict[str, object] | None, problem: str) -> PartStatus:
    if not record:
        return PartStatus(part.name, "down", part.address, "", None, 0)
    pid = int(str(record["pid"]))
    state = str(record["statename"]).lower()
    since = datetime.fromtimestamp(float(str(record["start"])), UTC) if pid else None
    return PartStatus(
        part.name,
        "running" if pid and state == "starting" else state,
        part.address,
        problem,
        since,
        tree_memory(pid) if pid else 0,
    )


@contextlib.contextmanager
def _one_at_a_time(directory: Path) -> Iterator[None]:
    """Two `endcap up` at once would start everything twice."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start_daemon(settings: Settings, parts: Sequence[Part], supervisor: Supervisor) -> None:
    end_processes(settings.home, seconds=5)  # what a killed supervisor left behind
    for part in parts:
        if part.port:
            require_free_port(part)
    home = settings.paths
    for folder in (home.airflow, home.mlflow, home.evidently, home.reports, home.logs):
        folder.mkdir(parents=True, exist_ok=True)
    supervisor.start(parts, stack_environment(settings))


def _start_parts(settings: Settings, parts: Sequence[Part], supervisor: Supervisor, watch: Watch, deadline: float) -> None:
    """All but Airflow at once; Airflow when its database has its tables; its scheduler when tasks can reach the API server."""
    records = supervisor.processes()
    waiting = [part for part in parts if not records.get(part.name, {}).get("pid")]
    airflow = [part for part in waiting if part.of_airflow]
    for part in waiting:
        if part not in airflow:
            supervisor.start_part(part.name)
    if not airflow:
        return
    for part in airflow:
        watch(part.name, "waiting for Airflow's database")
    _prepare_database(settings, supervisor)
    scheduler = [part for part in airflow if part.component == "scheduler"]
    for part in airflow:
        if part not in scheduler:
            supervisor.start_part(part.name)
    if scheduler:
        server = [part for part in parts if part.component == "api_server"]
        _wait_until_well(settings, server, supervisor, watch, deadline)
    for part in scheduler:
        supervisor.start_part(part.name)


def _prepare_database(settings: Settings, supervisor: Supervisor) -> None:
    log = supervisor.log("airflow-database")
    with log.open("w", encoding="utf-8") as out:
        command = [sys.executable, "-m", "endcap.stack.airflow_database"]
        environment = {
            key: value for key, value in stack_environment(settings).items() if key != MARK
        }  # it runs in our session
        done = subprocess.run(command, env=environment, stdout=out, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise ServiceUnavailable("could not be prepared", field="Airflow's database", value=_quote(log), action=f"See {log}.")


def _wait_until_well(settings: Settings, parts: Sequence[Part], supervisor: Supervisor, watch: Watch, deadline: float) -> None:
    while True:
        records = supervisor.processes()
        for part in parts:
            _require_alive(part, records.get(part.name, {}), supervisor)
        problems = ailments(parts, settings)
        for name, problem in problems.items():
            watch(name, problem or "well")
        sick = {name: problem for name, problem in problems.items() if problem}
        if not sick:
            return
        if time.monotonic() > deadline:
            name, problem = next(iter(sick.items()))
            raise ServiceUnavailable(
                f"not well in time: {problem}",
                field=name,
                value=_quote(supervisor.log(name)),
                action=f"See `endcap logs {name}`.",
            )
        time.sleep(0.5)


def _require_alive(part: Part, record: dict[str, object], supervisor: Supervisor) -> None:
    state = str(record.get("statename", "UNKNOWN"))
    if state in DEAD:
        log = supervisor.log(part.name)
        said = "\n  ".join(log_tail(log, 12)) or str(record.get("spawnerr", ""))
        raise ServiceUnavailable(
            f"died at start ({state.lower()}). Its last words:\n  {said}\n", field=part.name, action=f"The whole log: {log}."
        )


def _stop(settings: Settings, supervisor: Supervisor) -> int:
    count = len(stack_processes(settings.home))
    patience = STOP_SECONDS if supervisor.running() else 0.0
    supervisor.shutdown()
    if not wait_until_gone(settings.home, patience):
        end_processes(settings.home, seconds=5)
    return count


def _quote(log: Path) -> str:
    return " | ".join(log_tail(log, 3))
