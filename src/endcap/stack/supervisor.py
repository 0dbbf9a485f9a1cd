"""supervisord for one home: its configuration file, its socket, its start and its end."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import shlex
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.xmlrpc import Faults, SupervisorTransport  # type: ignore[import-untyped]

from endcap.errors import ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from endcap.config import Home
    from endcap.stack.parts import Part

SOCKET_LIMIT = 100  # bytes; the kernel refuses paths of about 108


class Supervisor:
    """The supervisord that owns the parts of this home, running or not."""

    def __init__(self, home: Home) -> None:
        self.directory = home.root / "stack"
        self.logs = home.logs
        self.config = self.directory / "supervisord.conf"
        self.socket = _socket(self.directory)

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def running(self) -> bool:
        try:
            with self._rpc() as rpc:
                return str(rpc.supervisor.getState()["statename"]) in {"RUNNING", "RESTARTING"}
        except ServiceUnavailable:
            return False

    def start(self, parts: Sequence[Part], environment: Mapping[str, str]) -> None:
        """Write the configuration and start the daemon; no part runs yet. Raises ServiceUnavailable when it does not answer."""
        self.logs.mkdir(parents=True, exist_ok=True)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config.write_text(self.render(parts), encoding="utf-8")
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.config)]
        done = subprocess.run(command, env=dict(environment), cwd="/", capture_output=True, text=True, check=False)
        deadline = time.monotonic() + 15
        while done.returncode == 0 and time.monotonic() < deadline:
            if self.running():
                return
            time.sleep(0.05)
        said = (done.stderr or done.stdout).strip()[-300:]
        raise ServiceUnavailable(
            "supervisord did not start", field=str(self.config), value=said, action=f"See {self.log('supervisord')}."
        )

    def processes(self) -> dict[str, dict[str, Any]]:
        """Part → supervisord's record of it (statename, pid, start, spawnerr, …); empty when no daemon answers."""
        try:
            with self._rpc() as rpc:
                records: list[dict[str, Any]] = rpc.supervisor.getAllProcessInfo()
        except ServiceUnavailable:
            return {}
        return {record["name"]: record for record in records}

    def start_part(self, name: str) -> None:
        """Start it unless it is already started."""
        with self._rpc() as rpc:
            try:
                rpc.supervisor.startProcess(name, False)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode != Faults.ALREADY_STARTED:
                    raise

    def shutdown(self) -> None:
        """Ask it to stop every part and then itself; returns at once."""
        with contextlib.suppress(ServiceUnavailable), self._rpc() as rpc:
            rpc.supervisor.shutdown()

    def render(self, parts: Sequence[Part]) -> str:
        """The configuration file. Secrets are not in it: they are inherited from the daemon's environment."""
        head = [
            "[unix_http_server]",
            f"file={_escape(self.socket)}",
            "chmod=0600",
            "[supervisord]",
            f"logfile={_escape(self.log('supervisord'))}",
            f"pidfile={_escape(self.directory / 'supervisord.pid')}",
            f"childlogdir={_escape(self.logs)}",
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
        ]
        return "\n".join([*head, *(line for part in parts for line in self._program(part))]) + "\n"

    def _program(self, part: Part) -> list[str]:
        return [
            f"[program:{part.name}]",
            f"command={_escape(shlex.join(part.command))}",
            f"directory={_escape(self.directory)}",
            "autostart=false",
            "autorestart=true",
            "startsecs=4",
            "startretries=2",
            f"stopsignal={part.stop_signal}",
            "stopwaitsecs=15",
            "killasgroup=true",
            "redirect_stderr=true",
            f"stdout_logfile={_escape(self.log(part.name))}",
            "stdout_logfile_maxbytes=20MB",
            "stdout_logfile_backups=2",
        ]

    @contextlib.contextmanager
    def _rpc(self) -> Iterator[Any]:
        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        try:
            yield xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
            raise ServiceUnavailable(
                "the stack is down", field=str(self.socket), action="Start it with `endcap up`."
            ) from error
        finally:
            transport.close()


def _socket(directory: Path) -> Path:
    """In the home, or in the temporary folder when the home's path is too long for a socket."""
    path = directory / "supervisor.sock"
    if len(os.fsencode(path)) <= SOCKET_LIMIT:
        return path
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"endcap-{os.getuid()}-{name}.sock"


def _escape(value: object) -> str:
    """supervisord expands `%`."""
    return str(value).replace("%", "%%")
