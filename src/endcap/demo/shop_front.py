"""The shop's front end, as the service sees it: asks for recommendations and reports what shoppers did."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import httpx

from endcap.errors import EndcapError, ServiceUnavailable

EVENTS_A_CALL = 1000


class ShopFront:
    """A client of the HTTP contract, version 1."""

    def __init__(self, url: str, key: str = "") -> None:
        self.url = url
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=30)

    def recommend(self, user_id: str, *, surface: str, k: int, at: datetime) -> dict[str, Any]:
        body = {"user_id": user_id, "surface": surface, "k": k, "context": {"time": at.isoformat()}}
        answer: dict[str, Any] = self._post("/v1/recommendations", body)
        return answer

    def send(self, events: Sequence[dict[str, Any]]) -> dict[str, int]:
        """Send events in calls of at most 1,000. Returns counts of accepted, duplicates and rejected."""
        total = {"accepted": 0, "duplicates": 0, "rejected": 0}
        for start in range(0, len(events), EVENTS_A_CALL):
            answer = self._post("/v1/events", list(events[start : start + EVENTS_A_CALL]))
            total["accepted"] += answer["accepted"]
            total["duplicates"] += answer["duplicates"]
            total["rejected"] += len(answer["rejected"])
        return total

    def model_version(self) -> str | None:
        """The version that answers now; None while the service falls back."""
        version: str | None = self._get("/v1/model").get("model_version")
        return version

    def wait_for_model(self, version: str, *, timeout_seconds: float = 60) -> None:
        """Wait until the service answers with this model version."""
        deadline = time.monotonic() + timeout_seconds
        while self.model_version() != version:
            if time.monotonic() > deadline:
                state = self._get("/v1/model")
                raise EndcapError(
                    f"does not serve model {version}", field=self.url, value=state, action="See `endcap logs serving`."
                )
            time.sleep(0.25)

    def _get(self, path: str) -> dict[str, Any]:
        answer: dict[str, Any] = self._call("GET", path).json()
        return answer

    def _post(self, path: str, body: Any) -> Any:
        return self._call("POST", path, json=body).json()

    def _call(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **kwargs)
        except httpx.TransportError as error:
            raise ServiceUnavailable(
                f"does not answer ({error})", field=self.url, action="`endcap status` shows what runs."
            ) from error
        if response.is_error:
            raise EndcapError(
                f"refused {method} {path}", field=self.url, value=response.text, action="See `endcap logs serving`."
            )
        return response
