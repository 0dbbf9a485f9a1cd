"""The candidate of a canary, held beside the champion: follows `@canary`, takes only what has earned it, and who gets it.

Law: nothing unearned is served. Its gate and canary records must verify and its files have the signed digest, as a champion's.
Away from the registry for long it is dropped: nobody could roll it back. Not here: the answers (answers.py), the shadow
(shadow.py), and when a canary moves on (`release/`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from endcap.contracts import ModelVersion
from endcap.data.canary_log import CANDIDATE_ARM, CHAMPION_ARM, ArmRow
from endcap.errors import EndcapError, RecordInvalid, RegistryError, ServiceUnavailable
from endcap.recommender import Recommender
from endcap.release.canary import share_of
from endcap.release.canary_rollout import read_state
from endcap.release.canary_state import SHADOW, CanaryState
from endcap.release.signing import Keys
from endcap.serving.loading import Load, load_proved
from endcap.serving.metrics import Metrics
from endcap.serving.schemas import Refusal

log = logging.getLogger(__name__)
RETRY_SECONDS = 60.0  # before a candidate that could not be loaded is tried again, unless its record changes
BLIND_SECONDS = 300.0  # without the registry, until the candidate is dropped


class CanarySource(Protocol):
    """Where candidates come from: `release.registry.Registry`."""

    def canaries(self) -> tuple[ModelVersion | None, ModelVersion | None]: ...

    def download(self, version: ModelVersion, models: Path) -> Path: ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate in place, swapped as one reference."""

    state: CanaryState
    version: ModelVersion
    recommender: Recommender


@dataclass(frozen=True, slots=True)
class Seat:
    """Where one request sits: with the candidate or with the champion."""

    candidate: Candidate
    arm: str
    shopper: str  # a pseudonym, or the request's id: the unit that is hashed and counted

    def row(self, request_id: str, time: datetime, latency_ms: float, *, error: bool, fallback: bool) -> ArmRow:
        """What is kept of the request as evidence."""
        state = self.candidate.state
        return ArmRow(
            request_id=request_id,
            canary_id=state.canary_id,
            step=state.step,
            arm=self.arm,
            shopper=self.shopper,
            time=time,
            answered_at=datetime.now(UTC),
            latency_ms=latency_ms,
            error=error,
            fallback=fallback,
        )


class CandidateStore:
    """Checks the registry every `reload_seconds` in a thread of its own. `current` is what may answer now."""

    def __init__(
        self,
        source: CanarySource,
        keys: Keys,
        models: Path,
        metrics: Metrics,
        *,
        repeat_surfaces: Sequence[str],
        reload_seconds: float,
        load: Load | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source, self._keys, self._models, self._metrics = source, keys, models, metrics
        self._repeat_surfaces, self._reload_seconds, self._load, self._clock = repeat_surfaces, reload_seconds, load, clock
        self.current: Candidate | None = None
        self.newest: CanaryState | None = None  # the canary that began last, for people
        self.refused: Refusal | None = None
        self._tried: tuple[object, float] | None = None  # the last refused candidate, and when
        self._heard = clock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="candidate-store", daemon=True)

    def start(self) -> None:
        """Follow the registry. Nothing is restored from disk: whether a canary still runs only the registry knows."""
        self._thread.start()

    def stop(self) -> None:
        """End following; a download in progress is left to die with the process."""
        self._stop.set()
        self._thread.join(timeout=2)

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                self.check()
            except Exception as error:  # following never ends; what cannot be read must not go on answering
                log.exception("canary check failed")
                self._refuse("?", "check", error)
            self._stop.wait(self._reload_seconds)

    def seat(self, user_id: str | None, request_id: str, champion: str | None) -> Seat | None:
        """Where a request sits; None: no canary answers anybody, or it is compared with another than this champion."""
        candidate = self.current  # read once: the whole answer is of this state
        if candidate is None or candidate.state.step == SHADOW or candidate.state.champion_version != champion:
            return None
        shopper = user_id or request_id
        first = share_of(shopper, candidate.state.canary_id) < candidate.state.share
        return Seat(candidate, CANDIDATE_ARM if first else CHAMPION_ARM, shopper)

    def shadowed(self, request_id: str, champion: str | None) -> Candidate | None:
        """The candidate, if it is to answer this request in the shadow."""
        candidate = self.current
        if candidate is None or candidate.state.champion_version != champion:
            return None
        hit = share_of(request_id, f"{candidate.state.canary_id}/shadow") < candidate.state.shadow_share
        return candidate if hit else None

    def check(self) -> None:
        """Look at the registry once; take, refuse, keep or drop."""
        try:
            pointed, newest = self._source.canaries()
        except ServiceUnavailable as error:
            if self.current is not None and self._clock() - self._heard > BLIND_SECONDS:
                self._drop(f"the registry is away, nobody could roll it back ({error})")
            return
        except RegistryError as error:
            self._refuse("?", "not_registered_by_endcap", error)
            return
        self._heard = self._clock()
        self._remember(newest)
        if pointed is None:
            self._drop("@canary is gone")
            self.refused, self._tried = None, None
            return
        try:
            state = read_state(pointed, self._keys)
        except RecordInvalid as error:
            self._refuse(pointed.version, "record", error, pointed)
            return
        if not state.open:
            self._drop(f"its record says {state.status}")
        elif not self._refused_lately(pointed, state):
            self._take(pointed, state)

    def _remember(self, newest: ModelVersion | None) -> None:
        try:
            self.newest = read_state(newest, self._keys) if newest else None
        except RecordInvalid as error:
            log.warning("canary record does not verify", extra={"reason": str(error)})
            self.newest = None

    def _take(self, version: ModelVersion, state: CanaryState) -> None:
        current = self.current
        if current is not None and (current.version.version, current.version.digest) == (version.version, version.digest):
            self._serve(replace(current, state=state, version=version))
            return
        try:
            directory = self._source.download(version, self._models)
            recommender = load_proved(version, directory, self._load, self._repeat_surfaces)
        except ServiceUnavailable as error:
            log.warning("candidate cannot be fetched", extra={"reason": str(error)})
        except RegistryError as error:
            self._refuse(version.version, "digest", error, version, state)
        except Exception as error:  # whatever is wrong with its files, the champion answers
            log.exception("candidate does not load", extra={"model_version": version.version})
            self._refuse(version.version, "load", error, version, state)
        else:
            self._serve(Candidate(state, version, recommender))
            log.info("candidate taken", extra={"model_version": version.version, "canary": state.canary_id})

    def _serve(self, candidate: Candidate) -> None:
        before, state = self.current, candidate.state
        self.current, self.refused, self._tried = candidate, None, None
        if before is None or (before.state.canary_id, before.state.step) != (state.canary_id, state.step):
            self._metrics.canary.clear()
        self._metrics.canary.labels(state.model_version, state.canary_id, str(state.step)).set(1)
        self._metrics.canary_share.set(state.share)
        if state.look is not None:
            self._metrics.canary_looked.set(state.look.at.timestamp())

    def _drop(self, why: str) -> None:
        if self.current is not None:
            log.warning("candidate dropped", extra={"canary": self.current.state.canary_id, "reason": why})
        self.current = None
        self._metrics.canary.clear()
        self._metrics.canary_share.set(0)

    def _refused_lately(self, version: ModelVersion, state: CanaryState) -> bool:
        if self._tried is None or self._tried[0] != (version.version, version.digest, state.canary_id):
            return False
        return self._clock() - self._tried[1] < RETRY_SECONDS

    def _refuse(
        self,
        version: str,
        cause: str,
        error: Exception,
        candidate: ModelVersion | None = None,
        state: CanaryState | None = None,
    ) -> None:
        reason = str(error) if isinstance(error, EndcapError) else f"cannot be loaded ({type(error).__name__}: {error})"
        self._drop(reason)
        if candidate is not None and state is not None:
            self._tried = (version, candidate.digest, state.canary_id), self._clock()
        if self.refused is not None and (self.refused.model_version, self.refused.reason) == (version, reason):
            return
        self.refused = Refusal(model_version=version, reason=reason, time=datetime.now(UTC))
        self._metrics.canary_refused.labels(cause).inc()
        log.error("candidate refused", extra={"model_version": version, "cause": cause, "reason": reason})
