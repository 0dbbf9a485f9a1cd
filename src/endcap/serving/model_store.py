"""The model that serves: follows `@champion`, takes only what has earned it, and keeps the last good one whatever happens.

Law: nothing unearned is served. A champion is taken when its gate and promotion records verify and its files have the digest
that was signed. Here is the swap; what a record must say is in `release/records.py`.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from endcap.contracts import ModelVersion
from endcap.data.atomic_write import write_atomically
from endcap.errors import EndcapError, RecordInvalid, RegistryError, ServiceUnavailable
from endcap.recommender import Recommender
from endcap.release.records import GATE, PROMOTION, verified_promotion
from endcap.release.signing import Keys
from endcap.serving.loading import Load, load_proved
from endcap.serving.metrics import Metrics
from endcap.serving.schemas import ModelState, Refusal

log = logging.getLogger(__name__)
LAST_GOOD = "last_good.json"
RETRY_SECONDS = 60.0  # before a champion that could not be loaded is tried again, unless its records change


class ChampionSource(Protocol):
    """Where champions come from: `release.registry.Registry`."""

    def champion(self) -> ModelVersion | None: ...

    def download(self, version: ModelVersion, models: Path) -> Path: ...


@dataclass(frozen=True, slots=True)
class Served:
    """A model in place: everything that one request needs, swapped as one reference, so that no request sees two models."""

    version: ModelVersion
    approved_by: str
    recommender: Recommender
    loaded_at: datetime
    source: str  # registry | disk


class ModelStore:
    """Checks the registry every `reload_seconds` in a thread of its own. `current` is what serves now."""

    def __init__(
        self,
        source: ChampionSource,
        keys: Keys,
        models: Path,
        metrics: Metrics,
        *,
        repeat_surfaces: Sequence[str],
        reload_seconds: float,
        load: Load | None = None,
    ) -> None:
        self._source, self._keys, self._models, self._metrics = source, keys, models, metrics
        self._repeat_surfaces, self._reload_seconds = repeat_surfaces, reload_seconds
        self._load = load
        self.current: Served | None = None
        self.refused: Refusal | None = None
        self.registry_up = False
        self._tried: tuple[object, float] | None = None  # the last refused champion, and when in monotonic seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="model-store", daemon=True)

    def start(self) -> None:
        """Serve the last good model from disk at once, if it verifies; then follow the registry."""
        self.restore()
        self._thread.start()

    def stop(self) -> None:
        """End following; a download in progress is left to die with the process."""
        self._stop.set()
        self._thread.join(timeout=2)

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                self.check()
            except Exception as error:  # following never ends: the next champion may be good; page and metrics show it
                log.exception("model check failed")
                self._registry(up=False, why=f"{type(error).__name__}: {error}")
            self._stop.wait(self._reload_seconds)

    def check(self) -> None:
        """Look at the registry once; take, refuse or keep."""
        try:
            champion = self._source.champion()
        except ServiceUnavailable as error:
            self._registry(up=False, why=str(error))
            return
        except RegistryError as error:
            self._registry(up=True)
            self._refuse("?", "not_registered_by_endcap", error)
            return
        self._registry(up=True)
        if champion is None or self._known(champion):
            return
        try:
            record = verified_promotion(champion, self._keys)
            directory = self._source.download(champion, self._models)
            self._take(champion, str(record["approved_by"]), directory, "registry")
        except ServiceUnavailable as error:
            self._registry(up=False, why=str(error))
        except RecordInvalid as error:
            self._refuse(champion.version, "record", error, champion)
        except RegistryError as error:
            self._refuse(champion.version, "digest", error, champion)
        except Exception as error:  # whatever is wrong with its files, the old model must stay
            log.exception("champion does not load", extra={"model_version": champion.version})
            self._refuse(champion.version, "load", error, champion)

    def restore(self) -> None:
        """Take the model that served last from disk, if its records and files still verify. Needs no registry."""
        path = self._models / LAST_GOOD
        if not path.exists():
            return
        version = "?"
        try:
            known = ModelVersion(**json.loads(path.read_text(encoding="utf-8")))
            version = known.version
            record = verified_promotion(known, self._keys)
            self._take(known, str(record["approved_by"]), self._models / known.version, "disk")
        except Exception as error:  # noqa: BLE001 - files of an unclean stop can be broken in any way; the registry is asked next
            self._refuse(version, "last_good", error)

    def _known(self, champion: ModelVersion) -> bool:
        """Whether this champion serves already, or was refused as it stands just now."""
        if self.current and _identity(self.current.version) == _identity(champion):
            self.refused = None
            if self.current.source == "disk":
                self.current = replace(self.current, source="registry")
            return True
        if self._tried is None or self._tried[0] != _identity(champion):
            return False
        return time.monotonic() - self._tried[1] < RETRY_SECONDS  # the clock on the wall may jump

    def _take(self, version: ModelVersion, approved_by: str, directory: Path, source: str) -> None:
        recommender = load_proved(version, directory, self._load, self._repeat_surfaces)
        served = Served(version, approved_by, recommender, datetime.now(UTC), source)
        self.current, self.refused, self._tried = served, None, None
        self._metrics.model.clear()
        self._metrics.model.labels(version.version, version.dataset_version, version.kind).set(1)
        self._metrics.model_reloads.inc()
        if source == "registry":
            write_atomically(self._models / LAST_GOOD, json.dumps(asdict(version)))
        log.info("model serves", extra={"model_version": version.version, "dataset_version": version.dataset_version})

    def _refuse(self, version: str, cause: str, error: Exception, champion: ModelVersion | None = None) -> None:
        reason = str(error) if isinstance(error, EndcapError) else f"cannot be loaded ({type(error).__name__}: {error})"
        repeated = self.refused is not None and (self.refused.model_version, self.refused.reason) == (version, reason)
        self._tried = (_identity(champion), time.monotonic()) if champion else None
        if repeated:
            return
        self.refused = Refusal(model_version=version, reason=reason, time=datetime.now(UTC))
        self._metrics.model_refused.labels(cause).inc()
        log.error("champion refused", extra={"model_version": version, "cause": cause, "reason": reason})

    def _registry(self, *, up: bool, why: str = "") -> None:
        if self.registry_up and not up:
            log.warning("registry away", extra={"reason": why})
        self.registry_up = up
        self._metrics.registry_up.set(up)

    def state(self) -> ModelState:
        """What serves, and what was refused."""
        served, refused, registry_up = self.current, self.refused, self.registry_up
        if served is None:
            return ModelState(model_version=None, registry_up=registry_up, refused=refused)
        version = served.version
        return ModelState(
            model_version=version.version,
            dataset_version=version.dataset_version,
            kind=version.kind,
            code_commit=version.code_commit,
            digest=version.digest,
            approved_by=served.approved_by,
            items=len(served.recommender.items),
            loaded_at=served.loaded_at,
            source=served.source,
            registry_up=registry_up,
            refused=refused,
        )


def _identity(version: ModelVersion) -> tuple[object, ...]:
    """Two champions of one identity are one: same model, same files, same records."""
    return version.version, version.digest, version.tags.get(GATE), version.tags.get(PROMOTION)
