"""Release tasks that race or queue. The registry is stood in for by a dictionary: what is tested is the order of its calls."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping

import pytest

from endcap.config import Settings
from endcap.contracts import ModelVersion
from endcap.errors import ReleaseError, ServiceUnavailable
from endcap.pipeline import release
from endcap.release.audit import AuditLog
from endcap.release.records import GATE, gate_record, to_tag
from endcap.release.signing import Keys


class Shelf:
    """A registry in memory; whoever writes a promotion waits a moment, so that a rival could come between."""

    def __init__(self, *versions: str) -> None:
        lineage = ("full", "dataset-1", "c0de", "9a9a", "d1" * 32, "run")
        self.found = {v: ModelVersion(v, *lineage, tags={"status": "candidate"}) for v in versions}
        self.alias: str | None = None
        self.described: dict[str, str] = {}
        self.rival = threading.Event()

    def get(self, version: str) -> ModelVersion:
        return self.found[version]

    def champion(self) -> ModelVersion | None:
        return self.found[self.alias] if self.alias else None

    def previous_champions(self) -> list[ModelVersion]:
        return []

    def set_tags(self, version: str, tags: Mapping[str, str]) -> None:
        found = self.found[version]
        self.found[version] = dataclasses.replace(found, tags={**found.tags, **tags})

    def describe(self, version: str, text: str) -> None:
        self.described[version] = text

    def set_champion(self, version: str) -> None:
        self.rival.wait(0.3)  # ends early only when another promotion has come this far too
        self.rival.set()
        self.alias = version


@pytest.fixture
def shelf(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    shelf, keys = Shelf("1", "2", "3"), Keys.load(settings.paths.secrets)
    for version in shelf.found.values():
        record = gate_record(version, passed=True, champion=None, checks={"size": True})
        shelf.set_tags(version.version, {GATE: to_tag(keys.sign(record))})
    monkeypatch.setattr(release, "registry_of", lambda _: shelf)
    return shelf


def test_of_two_promotions_at_once_the_second_is_refused_as_stale(shelf: Shelf) -> None:
    promoted: list[str] = []
    refused: list[ReleaseError] = []

    def promote(version: str) -> None:
        try:
            promoted.append(release.promote(version, "ann")["model_version"])
        except ReleaseError as error:
            refused.append(error)

    threads = [threading.Thread(target=promote, args=(version,)) for version in ("1", "2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert promoted == [shelf.alias]
    assert ["Judge it again" in str(error) for error in refused] == [True]


def test_candidates_that_a_newer_one_overtook_are_marked_and_nothing_else_is(shelf: Shelf) -> None:
    shelf.set_tags("2", {"status": "gates passed"})

    assert release.set_aside(["1", "2", "3", "3", ""], newest="3") == ["1"]
    assert shelf.found["1"].tags["status"] == "superseded"
    assert shelf.found["1"].tags["superseded_by"] == "3"
    assert "Superseded by model 3" in shelf.described["1"]
    assert shelf.found["2"].tags["status"] == "gates passed"
    assert shelf.found["3"].tags["status"] == "candidate"
    assert release.set_aside(["1", "2", "3"], newest="3") == []


def entries(settings: Settings) -> list[tuple[str, str, str]]:
    log = AuditLog(settings.event_log_url, Keys.load(settings.paths.secrets))
    found = [(entry.body["action"], entry.body["subject"], entry.body["by"]) for entry in log.entries()]
    assert log.verify().entries == len(found)
    log.close()
    return found


def test_who_promoted_rejected_and_rolled_back_is_in_the_audit_log(
    shelf: Shelf, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    release.promote("1", "ann")
    release.promote("1", "ann")  # a rerun changes nothing and tells nothing
    with pytest.raises(ReleaseError, match="rejected by bob"):
        release.reject("3", "bob", "too slow")
    first, tags = shelf.found["1"], {"status": "champion", "promoted_at": "9"}
    shelf.set_tags("1", tags)
    shelf.set_tags("2", {**first.tags, "promoted_at": "1"})
    monkeypatch.setattr(shelf, "previous_champions", lambda: [shelf.found["2"]])
    monkeypatch.setattr("endcap.release.promotion._verifies", lambda *_: True)
    release.rollback("eve")
    assert entries(settings) == [
        ("model.promoted", "model 1", "ann"),
        ("model.rejected", "model 3", "bob"),
        ("model.rolled_back", "model 1", "eve"),
    ]


def test_what_cannot_be_written_down_is_not_promoted(shelf: Shelf, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENDCAP_EVENT_LOG_URL", "postgresql://nobody@127.0.0.1:9/nothing")
    with pytest.raises(ServiceUnavailable, match="ENDCAP_EVENT_LOG_URL"):
        release.promote("1", "ann")
    assert shelf.alias is None
    assert shelf.found["1"].tags["status"] == "candidate"
