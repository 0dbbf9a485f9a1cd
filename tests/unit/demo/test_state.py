"""An interrupted demo goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from endcap.demo.state import DemoState
from endcap.errors import InputError


def test_a_step_is_done_once_also_by_the_next_process(tmp_path: Path) -> None:
    calls = []
    for _ in range(2):
        state = DemoState(tmp_path / "demo" / "state.json")
        assert state.once("history", lambda: calls.append(1) or {"events": 3}) == {"events": 3}
    assert calls == [1]


def test_a_step_that_fails_is_done_again(tmp_path: Path) -> None:
    state = DemoState(tmp_path / "state.json")

    def fail() -> None:
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        state.once("history", fail)
    assert DemoState(tmp_path / "state.json").once("history", lambda: 7) == 7


def test_a_broken_state_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(InputError, match=r"state\.json.*is not JSON.*make clean"):
        DemoState(tmp_path / "state.json")
