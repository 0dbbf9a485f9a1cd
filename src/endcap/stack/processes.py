"""The operating system's view: who holds a port, which processes belong to a stack, how much memory they take."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import time
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]

from endcap.errors import ConfigError
from endcap.stack.environment import MARK
from endcap.stack.parts import HOST

if TYPE_CHECKING:
    from pathlib import Path

    from endcap.stack.parts import Part


def require_free_port(part: Part, patience_seconds: float = 2.0) -> None:
    """Raise ConfigError that names the port, its holder and the variable that moves it.

    A process that was just killed may need a moment to let go of its port, hence the patience.
    """
    deadline = time.monotonic() + patience_seconds
    while (error := _bind_error(part.port)) is not None:
        if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
            time.sleep(0.1)
            continue
        problem = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        action = f"{_holder(part.port)}Stop that process, or choose another port: {part.port_setting}=<port> endcap up."
        raise ConfigError(f"the port for {part.name} {problem}", field=part.port_setting, value=part.port, action=action)


def _bind_error(port: int) -> OSError | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return error
    return None


def _holder(port: int) -> str:
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                command = " ".join(psutil.Process(connection.pid).cmdline())
                return f"Process {connection.pid} holds it ({command[:80]}). "
    return ""


def stack_processes(home: Path) -> list[psutil.Process]:
    """Every process of this home's stack, also when supervisord was killed and left its children behind.

    Their environment carries the mark, unless they renamed themselves (Airflow does, which overwrites what the system shows of
    it); those share the session that supervisord opened.
    """
    everything = list(psutil.process_iter())
    marked = [process for process in everything if _marked(process, home)]
    sessions = {_session(process) for process in marked} | _session_of_killed(home)
    sessions -= {0, os.getsid(0)}
    found = {process for process in everything if _session(process) in sessions} | set(marked)
    for process in list(found):
        with contextlib.suppress(psutil.Error):
            found |= set(process.children(recursive=True))
    return [process for process in found if process.pid != os.getpid() and process.is_running()]


def _marked(process: psutil.Process, home: Path) -> bool:
    try:
        return bool(process.environ().get(MARK) == str(home))
    except (psutil.Error, OSError):
        return False


def _session(process: psutil.Process) -> int:
    try:
        return os.getsid(process.pid)
    except OSError:
        return 0


def _session_of_killed(home: Path) -> set[int]:
    """The session of a supervisord that left its pid file behind; its number is not given out again while a member lives."""
    try:
        leader = int((home / "stack" / "supervisord.pid").read_text())
    except (OSError, ValueError):
        return set()
    return set() if psutil.pid_exists(leader) else {leader}


def end_processes(home: Path, seconds: float) -> int:
    """Ask what is left of a stack to end, then kill it. Returns how many processes there were."""
    left = stack_processes(home)
    total = len(left)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)
        psutil.wait_procs(left, timeout=seconds)
        left = stack_processes(home)
        if not left:
            break
    return total


def tree_memory(pid: int) -> int:
    """Bytes of this process and its children; shared pages are split among those that share them."""
    total = 0
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                memory = process.memory_full_info()
                total += getattr(memory, "pss", memory.uss)
    return total


def wait_until_gone(home: Path, seconds: float) -> bool:
    """Whether no process of the stack is left within `seconds`."""
    deadline = time.monotonic() + seconds
    while stack_processes(home):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
