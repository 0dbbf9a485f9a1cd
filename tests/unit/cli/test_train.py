"""`endcap train` starts other processes only where params.yaml asks for them and torchrun has not done so already."""

from __future__ import annotations

import pytest

from endcap.cli import stages as commands
from endcap.config import Params
from endcap.pipeline import stages
from endcap.training import distributed


@pytest.mark.parametrize(("processes", "world", "expected"), [(1, "1", "here"), (2, "1", "launched 2"), (2, "2", "here")])
def test_where_training_runs(
    processes: int, world: str, expected: str, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    train = params.train.model_copy(update={"processes": processes})
    monkeypatch.setattr(commands, "load_params", lambda: params.model_copy(update={"train": train}))
    monkeypatch.setattr(stages, "train", lambda *_: done.append("here") or {})
    monkeypatch.setattr(distributed, "launch", lambda command, count: done.append(f"launched {count}"))
    monkeypatch.setenv("WORLD_SIZE", world)
    monkeypatch.setenv("RANK", "0")
    commands._train(lambda _: None)
    assert done == [expected]
