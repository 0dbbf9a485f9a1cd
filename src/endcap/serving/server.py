"""The process: a socket, uvicorn and the application."""

from __future__ import annotations

import socket

from endcap.config import Params, Settings
from endcap.errors import ServiceUnavailable
from endcap.serving.app import create_app

_BACKLOG = 2048
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_GRACE_SECONDS = 10


def run(settings: Settings, params: Params, *, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are answered first.

    Raises:
        ServiceUnavailable: the port is in use or not allowed.
    """
    import uvicorn

    listening = _listen(host, port)
    if settings.api_keys == "auto" and host not in _LOOPBACK:
        settings = settings.model_copy(update={"api_keys": "required"})  # never open to other machines without a word
    config = uvicorn.Config(
        create_app(settings, params),
        log_level="info",
        access_log=False,  # metrics count requests; a line each would cost more than the answer
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    with listening:
        print(f"Endcap serves at http://{host}:{port} (API: /docs)", flush=True)  # noqa: T201
        uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ServiceUnavailable(
            f"cannot listen ({error.strerror or error})",
            field="ENDCAP_SERVING_PORT",
            value=f"{host}:{port}",
            action="Stop what uses it (`endcap down`) or choose another: `endcap serve --port N`.",
        ) from error
    listening.listen(_BACKLOG)
    return listening
