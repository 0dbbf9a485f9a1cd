"""One polite connection to MLflow: short time-outs, and errors that say what to do."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from endcap.errors import RegistryError, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

PROBE_SECONDS = 5.0
# MLflow's own defaults keep a caller waiting for minutes (7 retries, 120 s each). An operator may still set them.
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class Connection:
    """The MLflow client of one address, made at first use."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._client: Any = None

    @contextlib.contextmanager
    def open(self, doing: str) -> Iterator[Any]:
        """The client, after a quick probe that the server answers.

        Raises:
            ServiceUnavailable: MLflow does not answer (known within about 5 s), while `doing`.
            RegistryError: MLflow answered that what was asked for does not exist or is not allowed.
        """
        self._probe(doing)
        import requests
        from mlflow.exceptions import MlflowException

        try:
            yield self._made()
        except MlflowException as error:
            if error.error_code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"):
                raise self._away(doing, error) from error
            raise RegistryError(
                f"MLflow refused while {doing}", value=str(error)[:300], action="`endcap models` lists what there is."
            ) from error
        except requests.RequestException as error:
            raise self._away(doing, error) from error

    def _made(self) -> Any:
        if self._client is None:
            for name, value in _PATIENCE.items():
                os.environ.setdefault(name, value)
            from mlflow import MlflowClient

            self._client = MlflowClient(tracking_uri=self.url, registry_uri=self.url)
        return self._client

    def _probe(self, doing: str) -> None:
        import httpx

        try:
            httpx.get(f"{self.url}/health", timeout=PROBE_SECONDS).raise_for_status()
        except httpx.HTTPError as error:
            raise self._away(doing, error) from error

    def _away(self, doing: str, error: Exception) -> ServiceUnavailable:
        return ServiceUnavailable(
            f"MLflow does not answer while {doing} ({type(error).__name__}: {str(error)[:200]})",
            field="ENDCAP_MLFLOW_URL",
            value=self.url,
            action="See `endcap status`, start it with `endcap up`, then run this again (docs/runbooks/mlflow-away.md).",
        )
