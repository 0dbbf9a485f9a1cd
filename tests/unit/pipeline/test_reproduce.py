"""Stages by DVC: run once, restored elsewhere, visible in the log, and safe to run again after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from endcap.data.versions import DatasetRepository
from endcap.errors import ConfigError, TrainingError
from endcap.pipeline import reproduce
from endcap.pipeline import workspace as workspaces


def statuses(path: Path) -> list[str]:
    return [reproduce.run_stage(str(path), stage)["status"] for stage in reproduce.stages(path)]


def test_a_stage_runs_once_and_is_restored_in_another_workspace(
    project: Path, datasets: DatasetRepository, capfd: pytest.CaptureFixture[str], home: Path
) -> None:
    first = workspaces.create("first")
    assert statuses(first) == ["ran", "ran"]
    log = capfd.readouterr().out
    assert "stand-in prepare runs" in log
    assert f"remembers home {home}" in log, "stderr of a stage belongs to the log"
    assert (first / "work/model/model.txt").read_text() == "TEA"
    assert statuses(first) == ["unchanged", "unchanged"]
    second = workspaces.create("second")
    assert statuses(second) == ["cached", "cached"]
    assert (second / "work/model/model.txt").read_text() == "TEA"
    third = workspaces.create("third", params_overrides={"train.seed": 1})
    assert statuses(third) == ["cached", "ran"]
    capfd.readouterr()
    assert reproduce.run_stage(str(third), "train", force=True)["status"] == "ran"
    assert "stand-in train runs" in capfd.readouterr().out


def test_a_failing_stage_says_why_and_leaves_no_output(project: Path, datasets: DatasetRepository) -> None:
    (project / "src/standin.py").write_text("raise SystemExit('no tea today')\n")
    path = workspaces.create("broken")
    with pytest.raises(TrainingError, match="no tea today"):
        reproduce.run_stage(str(path), "prepare")
    with pytest.raises(ConfigError, match=r"bake.*prepare, train"):
        reproduce.run_stage(str(path), "bake")
    assert not (path / "work/prepared").exists()


def test_after_a_kill_the_leftover_is_stopped_and_the_stage_runs_again(project: Path, datasets: DatasetRepository) -> None:
    source = (project / "src/standin.py").read_text()
    slow = source + "\nimport time\nflag = pathlib.Path('../../waits')\n"
    slow += "if flag.exists():\n    pathlib.Path('pid').write_text(str(os.getpid()))\n    time.sleep(600)\n"
    (project / "src/standin.py").write_text(slow)
    path = workspaces.create("killed")
    flag = path.parent.parent / "waits"
    flag.touch()
    code = f"from endcap.pipeline.reproduce import run_stage; run_stage({str(path)!r}, 'prepare')"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (path / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    orphan = int((path / "pid").read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    os.kill(orphan, 0)  # it outlived its parent
    flag.unlink()
    assert reproduce.run_stage(str(path), "prepare")["status"] == "ran"
    assert (path / "work/prepared/names.txt").read_text() == "tea"
    assert not running(orphan)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
