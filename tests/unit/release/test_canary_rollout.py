"""A canary's life in the registry: killed anywhere and begun again it ends as one that was not, and two deciders are as one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.fixtures.canary_shelf import CanaryShelf, Killed

from endcap.config import Params, Settings
from endcap.errors import RecordInvalid, ReleaseError
from endcap.release import canary_rollout as rollout
from endcap.release.canary_state import SHADOW, CanaryState, Look
from endcap.release.signing import Keys
from endcap.sections import Canary

AT = datetime(2026, 1, 15, tzinfo=UTC)


@pytest.fixture
def shelf(settings: Settings, tmp_path: Path) -> CanaryShelf:
    shelf = CanaryShelf(tmp_path / "shelf", Keys.load(settings.paths.secrets))
    shelf.publish(1)
    shelf.candidate(2)
    return shelf


@pytest.fixture
def canary(params: Params) -> Canary:
    assert params.canary is not None
    return params.canary.model_copy(update={"shadow": None})


def start(shelf: CanaryShelf, canary: Canary, version: str = "2", by: str = "ada") -> CanaryState:
    return rollout.start(shelf, shelf.keys, canary, version, by, AT)  # type: ignore[arg-type]


def take(shelf: CanaryShelf, state: CanaryState, action: str) -> CanaryState:
    look = Look(at=AT, step=state.step, action=action, share=0.0, reasons=(f"so that it does {action}",))  # type: ignore[arg-type]
    return rollout.take(shelf, shelf.keys, state, look)  # type: ignore[arg-type]


def newest(shelf: CanaryShelf) -> CanaryState | None:
    return rollout.newest(shelf, shelf.keys)  # type: ignore[arg-type]


def crown(shelf: CanaryShelf, state: CanaryState, by: str = "bob") -> CanaryState:
    return rollout.crown(shelf, shelf.keys, state, by, AT)  # type: ignore[arg-type]


def to_the_end(shelf: CanaryShelf, canary: Canary) -> CanaryState:
    state = start(shelf, canary)
    for _ in canary.steps:
        state = take(shelf, state, "advance")
    return state


def test_it_goes_from_step_to_step_and_a_person_has_the_last_word(shelf: CanaryShelf, canary: Canary) -> None:
    state = start(shelf, canary)
    assert (state.step, state.share, state.champion_version, shelf.pointers["canary"]) == (0, 0.01, "1", "2")
    shares = []
    for _ in canary.steps:
        state = take(shelf, state, "advance")
        shares.append(state.share)
    assert shares == [0.1, 0.5, 1.0]
    assert state.status == "passed"
    assert shelf.pointers["champion"] == "1"
    state = crown(shelf, state)
    assert (state.status, shelf.pointers["champion"], shelf.pointers["canary"]) == ("promoted", "2", None)
    assert shelf.get("2").tags["promoted_by"] == "bob"
    assert [entry.what for entry in state.history] == ["started", "advanced", "advanced", "passed", "promoted"]
    assert state.history[1].look is not None, "every step says what it saw"
    assert newest(shelf) == state, "and the record says all of it"
    assert crown(shelf, state) == state


def test_it_begins_in_the_shadow_where_there_is_one(shelf: CanaryShelf, params: Params) -> None:
    assert params.canary is not None
    state = start(shelf, params.canary)
    assert (state.step, state.share, state.shadow_share) == (SHADOW, 0.0, 0.1)


def test_what_is_rolled_back_is_over(shelf: CanaryShelf, canary: Canary) -> None:
    state = take(shelf, start(shelf, canary), "roll_back")
    assert (state.status, state.share, shelf.pointers["canary"]) == ("rolled_back", 0.0, None)
    assert state.reasons == ("so that it does roll_back",)
    assert take(shelf, state, "advance").status == "rolled_back"
    with pytest.raises(ReleaseError, match="has not come through its canary"):
        crown(shelf, state)
    again = start(shelf, canary)  # a person tries it again; the first time stays on record
    assert again.canary_id != state.canary_id
    assert any(state.canary_id in text for name, text in shelf.get("2").tags.items() if "before" in name)


def test_a_look_at_what_has_moved_meanwhile_is_void(shelf: CanaryShelf, canary: Canary) -> None:
    seen = start(shelf, canary)
    first = take(shelf, seen, "advance")
    second = take(shelf, seen, "advance")  # another decider, who saw the same step
    assert first == second
    assert second.step == 1
    assert take(shelf, seen, "roll_back").status == "running"


def _start(shelf: CanaryShelf, canary: Canary) -> None:
    start(shelf, canary)


def _advance(shelf: CanaryShelf, canary: Canary) -> None:
    state = newest(shelf)
    assert state is not None
    if state.step == 0:
        take(shelf, state, "advance")


def _roll_back(shelf: CanaryShelf, canary: Canary) -> None:
    state = newest(shelf)
    assert state is not None
    look = Look(at=AT, step=state.step, action="roll_back", share=0.0, reasons=("broken",))
    rollout.roll_back(shelf, shelf.keys, state, "ada", look.reasons, look)  # type: ignore[arg-type]


def _crown(shelf: CanaryShelf, canary: Canary) -> None:
    state = newest(shelf)
    assert state is not None
    crown(shelf, state)


@pytest.mark.parametrize(
    ("before", "deed", "alias", "status"),
    [
        (lambda shelf, canary: None, _start, "2", "running"),
        (_start, _advance, "2", "running"),
        (_start, _roll_back, None, "rolled_back"),
        (to_the_end, _crown, None, "promoted"),
    ],
)
def test_killed_at_any_write_and_done_again_it_is_as_if_nothing_had_happened(
    settings: Settings,
    tmp_path: Path,
    canary: Canary,
    before: Callable[[CanaryShelf, Canary], object],
    deed: Callable[[CanaryShelf, Canary], None],
    alias: str | None,
    status: str,
) -> None:
    kills = 0
    while True:
        shelf = CanaryShelf(tmp_path / f"shelf-{kills}", Keys.load(settings.paths.secrets))
        shelf.publish(1)
        shelf.candidate(2)
        before(shelf, canary)
        shelf.killed_after, shelf.writes = kills, 0
        try:
            deed(shelf, canary)
        except Killed:
            shelf.killed_after = None
            served, _ = shelf.canaries()
            if served is not None:
                rollout.read_state(served, shelf.keys)  # whatever the alias points to has a record that verifies
            deed(shelf, canary)
            kills += 1
        else:
            break
        state = newest(shelf)
        assert state is not None
        assert (state.status, shelf.pointers["canary"]) == (status, alias)
        assert len({entry.what for entry in state.history}) == len(state.history) or status == "promoted"
    assert kills >= 1


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        (lambda shelf: shelf.candidate(2, passed=False), RecordInvalid, "not passed"),
        (lambda shelf: shelf.set_tags("2", {"gate_record": ""}), RecordInvalid, "there is none"),
        (lambda shelf: shelf.publish(3), ReleaseError, "was compared with champion 1, but the champion is now 3"),
        (lambda shelf: shelf.set_champion("2"), RecordInvalid, "there is none"),
        (lambda shelf: shelf.pointers.update(champion=None), ReleaseError, "no other champion to compare"),
    ],
)
def test_what_has_not_earned_it_does_not_start(
    shelf: CanaryShelf, canary: Canary, spoil: Callable[[CanaryShelf], object], error: type[Exception], says: str
) -> None:
    spoil(shelf)
    with pytest.raises(error, match=says):
        start(shelf, canary)
    assert shelf.pointers["canary"] is None


def test_nobody_and_a_second_one_at_once_are_refused(shelf: CanaryShelf, canary: Canary) -> None:
    with pytest.raises(ReleaseError, match="approved_by: nobody is named"):
        start(shelf, canary, by=" ")
    first = start(shelf, canary)
    shelf.candidate(3)
    with pytest.raises(ReleaseError, match=r"another canary is open; got 'model 2 answers 1 % of shoppers \(step 1 of 3\)'"):
        start(shelf, canary, "3")
    assert start(shelf, canary).canary_id == first.canary_id, "a rerun finds it running"


def test_a_record_that_tells_of_no_canary_is_refused_by_field(shelf: CanaryShelf, canary: Canary) -> None:
    from endcap.release.records import CANARY, canary_record, to_tag, verified_gate

    version = shelf.get("2")
    record = canary_record(version, verified_gate(version, shelf.keys), "ada", {"share": "much"})
    shelf.set_tags("2", {CANARY: to_tag(shelf.keys.sign(record))})
    with pytest.raises(RecordInvalid, match="canary record of model 2"):
        rollout.read_state(shelf.get("2"), shelf.keys)
