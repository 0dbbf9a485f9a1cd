"""Is a part well? Asked over HTTP, as a user would reach it; the answer is a reason, or nothing when all is well."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from endcap.config import project_root
from endcap.errors import ConfigError
from endcap.stack.secrets import airflow_password

if TYPE_CHECKING:
    from collections.abc import Sequence

    from endcap.config import Settings
    from endcap.stack.parts import Part

TIMEOUT_SECONDS = 5.0
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the parts are local: no proxy in between


def ailments(parts: Sequence[Part], settings: Settings) -> dict[str, str]:
    """Part → why it is not well; an empty reason means it is."""
    answers = {url: _ask(url) for url in dict.fromkeys(part.health for part in parts)}
    return {part.name: _ailment(part, answers[part.health], settings) for part in parts}


def _ailment(part: Part, answer: Any, settings: Settings) -> str:
    if isinstance(answer, Unreachable):
        return str(answer)
    if not part.of_airflow or part.component == "api_server":
        return ""
    state = answer.get(part.component) or {}
    if state.get("status") != "healthy":
        return f"Airflow reports {state.get('status') or 'no heartbeat yet'}"
    return _unread_dags(settings) if part.component == "dag_processor" else ""


def _unread_dags(settings: Settings) -> str:
    """The DAG files that Airflow has not read yet, or could not."""
    wanted = dag_ids()
    try:
        token = _ask(
            f"{settings.airflow_url}/auth/token", {"username": settings.airflow_user, "password": airflow_password(settings)}
        )
    except ConfigError as error:
        return str(error)
    if isinstance(token, Unreachable):
        return f"log-in of {settings.airflow_user}: {token}"
    listed = _ask(f"{settings.airflow_url}/api/v2/dags?limit=100", token=token["access_token"])
    if isinstance(listed, Unreachable):
        return str(listed)
    missing = wanted - {dag["dag_id"] for dag in listed["dags"]}
    return f"not read yet: {', '.join(sorted(missing))}" if missing else ""


def dag_ids() -> set[str]:
    """One DAG a file, named as the file; `.airflowignore` names the shared modules."""
    folder = project_root() / "dags"
    ignore = folder / ".airflowignore"
    ignored = set(ignore.read_text(encoding="utf-8").split()) if ignore.exists() else set()
    return {path.stem for path in folder.glob("*.py") if path.name not in ignored}


class Unreachable(str):
    """No usable answer, and why."""


def _ask(url: str, body: dict[str, str] | None = None, token: str = "") -> Any:
    """The JSON (or text) that `url` answers, or Unreachable."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        with _OPENER.open(urllib.request.Request(url, data, headers), timeout=TIMEOUT_SECONDS) as response:
            text = response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return Unreachable(f"answers {error.code} {error.reason}")
    except (OSError, ValueError) as error:
        return Unreachable(f"does not answer ({getattr(error, 'reason', error)})")
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
