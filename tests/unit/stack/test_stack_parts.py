"""Secrets, environment, configuration and processes of the stack, without starting it."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from endcap.config import Settings, load_settings
from endcap.errors import ConfigError, ServiceUnavailable
from endcap.stack import control, secrets
from endcap.stack.environment import MARK, stack_environment
from endcap.stack.parts import stack_parts
from endcap.stack.processes import end_processes, require_free_port, stack_processes
from endcap.stack.supervisor import SOCKET_LIMIT, Supervisor


def test_secrets_are_made_once_and_only_the_owner_reads_them(settings: Settings) -> None:
    folder = settings.paths.secrets
    secrets.make_secrets(folder)
    first = {path.name: path.read_text() for path in folder.iterdir()}
    secrets.make_secrets(folder)
    assert {path.name: path.read_text() for path in folder.iterdir()} == first
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(first["airflow_jwt.key"]) >= 64
    assert sorted(json.loads(first[secrets.PASSWORDS])) == ["admin", "operator", "viewer"]


def test_the_generated_password_gives_way_to_the_one_that_is_set(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets.make_secrets(settings.paths.secrets)
    generated = secrets.airflow_password(settings)
    assert generated == secrets.airflow_passwords(settings)["operator"]
    monkeypatch.setenv("ENDCAP_AIRFLOW_PASSWORD", "mine")
    assert secrets.airflow_password(load_settings()) == "mine"
    assert secrets.airflow_password(load_settings(), "admin") not in {"mine", generated}


def test_a_missing_or_empty_secret_is_named(settings: Settings) -> None:
    with pytest.raises(ConfigError, match=r"airflow_passwords\.json.*endcap up"):
        secrets.airflow_password(settings)
    secrets.make_secrets(settings.paths.secrets)
    (settings.paths.secrets / secrets.PASSWORDS).write_text("")
    with pytest.raises(ConfigError, match="empty"):
        secrets.airflow_password(settings)


def test_state_stays_in_the_home_and_what_the_user_set_wins(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql+psycopg://x")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("AIRFLOW__CORE__PARALLELISM", raising=False)
    environment = stack_environment(settings)
    assert environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == "postgresql+psycopg://x"
    assert environment["AIRFLOW__CORE__PARALLELISM"] == "4"
    assert environment["AIRFLOW_HOME"] == str(settings.home / "airflow")
    assert environment["MLFLOW_BACKEND_STORE_URI"].startswith(f"sqlite:///{settings.home}/")
    assert "PYTHONDONTWRITEBYTECODE" not in environment
    assert load_settings({key: value for key, value in environment.items() if key.startswith("ENDCAP_")}) == settings


def test_every_listening_part_is_bound_to_this_machine(settings: Settings) -> None:
    parts = stack_parts(settings)
    listening = [part for part in parts if part.port]
    assert [part.port for part in listening] == [8080, 5000, 8001, 8088]
    for part in listening:
        assert "0.0.0.0" not in part.command
        assert part.name == "serving" or "127.0.0.1" in part.command
    assert {part.stop_signal for part in parts if part.of_airflow} == {"INT"}


def test_the_configuration_holds_no_secret_and_escapes_percent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ENDCAP_HOME", str(tmp_path / "100%"))
    settings = load_settings()
    environment = stack_environment(settings)
    text = Supervisor(settings.paths).render(stack_parts(settings))
    assert str(tmp_path / "100%%") in text
    for name in ("AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET"):
        assert environment[name] not in text


def test_a_long_home_still_has_a_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ENDCAP_HOME", str(tmp_path / ("long" * 30)))
    assert len(os.fsencode(Supervisor(load_settings().paths).socket)) <= SOCKET_LIMIT


def test_a_port_in_use_names_the_port_its_holder_and_the_way_out(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("ENDCAP_MLFLOW_PORT", str(port))
        part = next(part for part in stack_parts(load_settings()) if part.name == "mlflow")
        with pytest.raises(ConfigError, match=rf"ENDCAP_MLFLOW_PORT.*in use.*{port}.*{os.getpid()}.*ENDCAP_MLFLOW_PORT=<port>"):
            require_free_port(part)
    require_free_port(part)


@pytest.fixture
def killed_stack(settings: Settings) -> Iterator[Settings]:
    """What is left of a stack whose supervisor was killed: a marked process, and one that hides its environment."""
    (settings.home / "stack").mkdir(parents=True)
    child = "import time; time.sleep(99)"
    leader = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}], env={{}}); {child}"
    environment = {**os.environ, MARK: str(settings.home)}
    process = subprocess.Popen([sys.executable, "-c", leader], env=environment, start_new_session=True)
    (settings.home / "stack" / "supervisord.pid").write_text(str(process.pid))
    deadline = time.monotonic() + 20
    while len(stack_processes(settings.home)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    yield settings
    end_processes(settings.home, seconds=5)


def test_down_ends_what_a_killed_supervisor_left_behind(killed_stack: Settings) -> None:
    assert len(stack_processes(killed_stack.home)) == 1
    assert control.down(killed_stack) == 1
    assert stack_processes(killed_stack.home) == []
    assert control.down(killed_stack) == 0


def test_a_stack_that_is_down_says_so(settings: Settings) -> None:
    assert {part.state for part in control.status(settings)} == {"down"}
    assert not Supervisor(settings.paths).running()
    with pytest.raises(ServiceUnavailable, match="endcap up"):
        Supervisor(settings.paths).start_part("mlflow")


def test_up_refuses_before_it_starts_anything_when_a_port_is_in_use(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        for name in ("AIRFLOW", "MLFLOW", "EVIDENTLY", "SERVING"):
            monkeypatch.setenv(f"ENDCAP_{name}_PORT", str(server.getsockname()[1]))
        with pytest.raises(ConfigError, match="in use"):
            control.up(load_settings())
    assert stack_processes(settings.home) == []
