"""Nothing unearned is served, and whatever happens the last good model stays."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tests.unit.serving.conftest import CountingModel, Shelf

from endcap.config import Params, Settings
from endcap.errors import RegistryError
from endcap.release.records import GATE, PROMOTION
from endcap.release.signing import Keys
from endcap.serving.metrics import Metrics
from endcap.serving.model_store import LAST_GOOD, ModelStore


def store_of(settings: Settings, params: Params, shelf: Shelf) -> ModelStore:
    return ModelStore(
        shelf,
        Keys.load(settings.paths.secrets),
        settings.paths.models,
        Metrics(),
        repeat_surfaces=params.serving.repeat_surfaces,
        reload_seconds=3600,
        load=CountingModel.load,
    )


@pytest.fixture
def store(settings: Settings, params: Params, shelf: Shelf) -> ModelStore:
    return store_of(settings, params, shelf)


def serving(store: ModelStore) -> str | None:
    return store.current.version.version if store.current else None


def refusals(store: ModelStore) -> float:
    return sum(s.value for m in store._metrics.model_refused.collect() for s in m.samples if s.name.endswith("_total"))


def test_without_a_champion_nothing_serves(store: ModelStore) -> None:
    store.check()
    assert serving(store) is None
    assert store.state().registry_up


def test_a_champion_with_its_records_is_taken_and_replaced_by_the_next(store: ModelStore, shelf: Shelf) -> None:
    shelf.publish(1)
    store.check()
    assert serving(store) == "1"
    assert store.state().approved_by == "ada"
    first = store.current
    store.check()
    assert store.current is first  # not loaded again
    shelf.publish(2)
    store.check()
    assert serving(store) == "2"


def _without(tag: str, shelf: Shelf) -> None:
    version = shelf.publish(2)
    shelf.retag(version, {name: text for name, text in version.tags.items() if name != tag})


def _of_another(shelf: Shelf) -> None:
    tags = shelf.publish(3).tags
    shelf.retag(shelf.publish(2, base=(1, 2, 3, 4, 5)), tags)


def _altered(shelf: Shelf) -> None:
    version = shelf.publish(2, passed=False)
    record = json.loads(version.tags[GATE]) | {"passed": True}
    shelf.retag(version, {**version.tags, GATE: json.dumps(record)})


def _tampered_files(shelf: Shelf) -> None:
    shelf.publish(2)
    (shelf.root / "2" / "config.json").write_text('{"items": ["mug"], "base": [99]}')


def _other_digest(shelf: Shelf) -> None:
    shelf.alias = replace(shelf.publish(2), digest="0" * 64)


def _nothing_to_show(shelf: Shelf) -> None:
    shelf.publish(2, base=[float("nan")] * 5)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda shelf: _without(GATE, shelf), "there is none"),
        (lambda shelf: _without(PROMOTION, shelf), "there is none"),
        (lambda shelf: shelf.publish(2, passed=False), "not passed"),
        (_of_another, "bound to another"),
        (_altered, "altered"),
        (_tampered_files, "not the one that was registered"),
        (_other_digest, "bound to another digest"),
        (_nothing_to_show, "finite"),
    ],
)
def test_an_unearned_champion_is_refused_and_the_old_one_stays(
    store: ModelStore, shelf: Shelf, spoil: object, said: str
) -> None:
    shelf.publish(1)
    store.check()
    spoil(shelf)  # type: ignore[operator]
    store.check()
    store.check()
    state = store.state()
    assert state.model_version == "1"
    assert state.refused is not None
    assert state.refused.model_version == "2"
    assert said in state.refused.reason
    assert refusals(store) == 1  # once, however often it is looked at


def test_a_refused_champion_is_taken_once_its_records_are_right(store: ModelStore, shelf: Shelf) -> None:
    version = shelf.publish(1)
    shelf.retag(version, {})
    store.check()
    assert serving(store) is None
    shelf.retag(version, version.tags)
    store.check()
    assert serving(store) == "1"
    assert store.state().refused is None


def test_files_changed_after_the_download_are_refused(store: ModelStore, shelf: Shelf, settings: Settings) -> None:
    version = shelf.publish(1)
    directory = shelf.download(version, settings.paths.models)
    shelf.download = lambda version, models: directory  # type: ignore[method-assign]  # a source that checks nothing
    (directory / "config.json").write_text('{"items": ["mug"], "base": [99]}')
    store.check()
    assert serving(store) is None
    assert "not those that were signed" in store.state().refused.reason  # type: ignore[union-attr]


def test_a_registry_that_is_away_changes_nothing(store: ModelStore, shelf: Shelf) -> None:
    shelf.publish(1)
    store.check()
    shelf.away = True
    store.check()
    assert serving(store) == "1"
    assert not store.state().registry_up


def test_a_champion_that_points_nowhere_changes_nothing(store: ModelStore, shelf: Shelf) -> None:
    shelf.publish(1)
    store.check()
    shelf.alias = None
    store.check()
    assert serving(store) == "1"


def test_a_champion_that_endcap_did_not_register_is_refused(store: ModelStore, shelf: Shelf) -> None:
    def foreign() -> None:
        raise RegistryError("has no tag digest", field="model 9")

    shelf.champion = foreign  # type: ignore[method-assign]
    store.check()
    assert "has no tag digest" in store.state().refused.reason  # type: ignore[union-attr]


def test_a_check_that_breaks_in_an_unknown_way_is_seen_and_the_next_one_counts(
    store: ModelStore, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        store._stop.set()  # one round
        raise RuntimeError("an answer nobody expected")

    monkeypatch.setattr(shelf, "champion", broken)
    store._follow()
    assert not store.state().registry_up
    monkeypatch.undo()
    shelf.publish(1)
    store.check()
    assert store.state().registry_up
    assert serving(store) == "1"


def test_a_restart_without_the_registry_serves_the_last_good_model(
    store: ModelStore, shelf: Shelf, settings: Settings, params: Params
) -> None:
    shelf.publish(1)
    store.check()
    shelf.away = True
    again = store_of(settings, params, shelf)
    again.start()
    again.stop()
    assert serving(again) == "1"
    assert again.state().source == "disk"
    shelf.away = False
    again.check()
    assert again.state().source == "registry"


def test_a_last_good_model_that_was_tampered_with_is_not_served(
    store: ModelStore, shelf: Shelf, settings: Settings, params: Params
) -> None:
    shelf.publish(1)
    store.check()
    (settings.paths.models / "1" / "config.json").write_text('{"items": ["mug"], "base": [99]}')
    again = store_of(settings, params, shelf)
    again.restore()
    assert serving(again) is None
    assert "not those that were signed" in again.state().refused.reason  # type: ignore[union-attr]


@pytest.mark.parametrize("content", ["", "{", '{"version": "1"}', '"../../etc"'])
def test_a_broken_note_of_the_last_good_model_does_not_stop_the_service(
    store: ModelStore, settings: Settings, content: str
) -> None:
    settings.paths.models.mkdir(parents=True)
    (settings.paths.models / LAST_GOOD).write_text(content)
    store.restore()
    assert serving(store) is None
