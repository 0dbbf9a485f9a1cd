"""Secrets that the stack needs, made once below `home.secrets` with mode 0600 and never printed in logs."""

from __future__ import annotations

import base64
import json
import os
import secrets
from typing import TYPE_CHECKING

from endcap.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from endcap.config import Settings

USERS = {"admin": "admin", "operator": "op", "viewer": "viewer"}  # log-in → role in Airflow
PASSWORDS = "airflow_passwords.json"


def make_secrets(directory: Path) -> None:
    """Create what is missing; what is there stays as it is, so that tokens and log-ins survive a restart."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    _once(directory / "airflow_fernet.key", lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
    _once(directory / "airflow_jwt.key", lambda: secrets.token_urlsafe(64))
    _once(directory / "airflow_api.key", lambda: secrets.token_urlsafe(48))
    _once(directory / PASSWORDS, lambda: json.dumps({user: secrets.token_urlsafe(12) for user in USERS}) + "\n")
    (directory / PASSWORDS).chmod(0o600)


def read_secret(path: Path) -> str:
    """The secret in this file. Raises ConfigError when it is missing, empty or unreadable."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the secret cannot be read ({error})", field=str(path), action=_MEND) from error
    if not text:
        raise ConfigError("the secret is empty", field=str(path), action=_MEND)
    return text


def airflow_passwords(settings: Settings) -> dict[str, str]:
    """Log-in → password, as the stack gave them to Airflow. Raises ConfigError when the stack was never up."""
    path = settings.paths.secrets / PASSWORDS
    try:
        passwords = json.loads(read_secret(path))
    except json.JSONDecodeError as error:
        raise ConfigError(f"is not JSON ({error})", field=str(path), action=_MEND) from error
    return {str(user): str(password) for user, password in passwords.items()}


def airflow_password(settings: Settings, user: str | None = None) -> str:
    """The password of `user` (default: `ENDCAP_AIRFLOW_USER`); `ENDCAP_AIRFLOW_PASSWORD` wins over the generated one."""
    user = user or settings.airflow_user
    if settings.airflow_password and user == settings.airflow_user:
        return settings.airflow_password
    passwords = airflow_passwords(settings)
    if user not in passwords:
        action = f"Known log-ins: {', '.join(sorted(passwords))}; for another set ENDCAP_AIRFLOW_PASSWORD."
        raise ConfigError("has no generated password", field="ENDCAP_AIRFLOW_USER", value=user, action=action)
    return passwords[user]


_MEND = "Run `endcap up`; if the file is broken, delete it first and a new one is made."


def _once(path: Path, make: Callable[[], str]) -> None:
    """Write `make()` to `path` unless it exists; two callers at once agree on one value."""
    if path.exists():
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.touch(mode=0o600)
    temporary.write_text(make(), encoding="utf-8")
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass  # another process was first; its value holds
    finally:
        temporary.unlink()
