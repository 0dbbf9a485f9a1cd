"""What policies know: sums that come back from disk as they were, and files of which only good ones count."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from endcap.errors import InputError
from endcap.policy import state_files
from endcap.policy.features import NAMES, names_of
from endcap.policy.state import MODELS, State, read_state

UNTIL = datetime(2026, 11, 1, tzinfo=UTC)


def learnt(rows: int = 5, feature_set: str = "linear-1", seed: int = 1) -> State:
    random = np.random.default_rng(seed)
    features = random.normal(size=(rows, len(names_of(feature_set))))
    return State("click 1", UNTIL).add(feature_set, features, random.random(rows))


def test_a_state_comes_back_as_it_was() -> None:
    state = learnt().add("linear-1+items-2@7.abc", np.ones((3, 31)), np.array([1.0, 0, 0.1]))
    again = read_state(state.to_text())
    assert (again.rewards, again.until, list(again.sets), again.rows) == ("click 1", UNTIL, list(state.sets), 8)
    for name, one in state.sets.items():
        np.testing.assert_array_equal(again.sets[name].xx, one.xx)
        np.testing.assert_array_equal(again.sets[name].xr, one.xr)
        assert again.sets[name].names == names_of(name)


def test_sums_in_parts_are_sums_at_once_and_a_block_hears_every_set_that_has_it() -> None:
    random = np.random.default_rng(3)
    features, rewards = random.normal(size=(10, 31)), random.random(10)
    parts = State("r").add("linear-1+items-2@7", features[:6], rewards[:6]).add("linear-1+items-2@7", features[6:], rewards[6:])
    other = parts.add("linear-1", features[:, :29], rewards)
    known = other.about(NAMES)
    np.testing.assert_allclose(known.xx, 2 * features[:, :29].T @ features[:, :29])
    assert known.rows == 20
    assert other.about((*NAMES, "item_0@7")).rows == 10
    assert other.about((*NAMES, "item_0@8")).rows == 0  # of another model: nothing is known


def test_of_models_long_gone_what_every_model_has_is_kept() -> None:
    state, rows = State("r"), 0
    for model in range(MODELS + 3):
        state, rows = state.add(f"linear-1+items-2@{model}", np.ones((2, 31)), np.ones(2)), rows + 2
    assert state.about(NAMES).rows == rows
    assert sorted(state.sets) == ["linear-1", *(f"linear-1+items-2@{model}" for model in range(3, MODELS + 3))]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"format": "another-1"}, "format"),
        ({"until": "2026-11-01T00:00:00"}, "until"),
        ({"sets": {"linear-0": {}}}, "feature_set"),
        ({"sets": {"linear-1": {"names": ["one"], "xx": [[1]], "xr": [1], "rr": 1, "rows": 1}}}, r"sets\.linear-1\.names"),
        ({"sets": {"linear-1": {"names": list(NAMES), "xx": [[1]], "xr": [1], "rr": 1, "rows": 1}}}, r"sets\.linear-1"),
        ({"sets": []}, "state"),
    ],
)
def test_a_foreign_state_is_refused_by_name(change: dict[str, object], where: str) -> None:
    raw = json.loads(learnt().to_text()) | change
    with pytest.raises(InputError, match=f"^{where}: "):
        read_state(json.dumps(raw))


@pytest.mark.parametrize(("row", "column", "value"), [(0, 0, float("nan")), (1, 1, -1.0), (0, 3, 9e9), (4, 4, 1e-9)])
def test_sums_that_no_rows_have_are_refused(row: int, column: int, value: float) -> None:
    state = learnt(60)
    state.sets["linear-1"].xx[row, column] = value
    with pytest.raises(InputError, match=r"sets\.linear-1: "):
        read_state(state.to_text())


def test_the_newest_good_file_counts_and_bad_ones_are_named(tmp_path: Path) -> None:
    assert state_files.newest(tmp_path / "none").state is None
    first = state_files.save(tmp_path, learnt(5), keep=3)
    second = state_files.save(tmp_path, learnt(7), keep=3)
    assert state_files.newest(tmp_path).name == second
    (tmp_path / second).write_text((tmp_path / second).read_text().replace("click 1", "click 2"))
    (tmp_path / "state-00000009-0123456789abcdef.json").write_text("{")
    (tmp_path / "state-copy.json").write_text("{}")
    found = state_files.newest(tmp_path)
    assert found.name == first
    assert found.state is not None
    assert found.state.rows == 5
    assert [reason.split(": ")[0] for reason in found.refused] == ["state-00000009-0123456789abcdef.json", second]
    third = state_files.save(tmp_path, learnt(9), keep=3)
    assert third.startswith("state-00000010-")
    assert state_files.newest(tmp_path).name == third


def test_the_last_few_are_kept_and_what_a_killed_writer_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".0123.tmp").write_text("half")
    kept = [state_files.save(tmp_path, learnt(rows), keep=2) for rows in range(1, 6)]
    assert state_files.names(tmp_path) == kept[:-3:-1]
    assert {path.name for path in tmp_path.iterdir()} == set(kept[-2:])


WRITER = """
import sys
from pathlib import Path
import numpy as np
from endcap.policy.state import State
from endcap.policy.state_files import save
state = State("click 1")
print("begins", flush=True)
while True:
    state = state.add("linear-1+items-24@1", np.ones((1, 53)), np.ones(1))
    save(Path(sys.argv[1]), state, 3)
"""


def test_a_writer_that_is_killed_leaves_a_good_state(tmp_path: Path) -> None:
    rows = 0
    for pause in (0.05, 0.11, 0.17):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, env=os.environ)
        assert writer.stdout is not None
        writer.stdout.readline()
        while not state_files.names(tmp_path):
            time.sleep(0.005)
        time.sleep(pause)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        found = state_files.newest(tmp_path)
        assert found.refused == ()
        assert found.state is not None
        assert found.state.rows >= 1
        rows += found.state.rows
    assert rows > 3
