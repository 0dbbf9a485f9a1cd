"""Two processes learn what one learns, to rounding; one that dies or hangs ends the training with an error, not with a wait."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.fixtures.team_program import OPTIONS, learn
from tests.fixtures.tiny_model import tiny_catalog, tiny_events, tiny_text

from endcap.config import project_root
from endcap.data.features import interactions_from_events
from endcap.errors import TrainingError
from endcap.training import distributed
from endcap.training.augmentation import Augment, augment
from endcap.training.fitting import new_network
from endcap.training.losses import Negatives
from endcap.training.sequences import batches, make_sequences
from endcap.training.team import Team
from endcap.training.trainer import batch_loss


def run(folder: Path, *how: str) -> None:
    distributed.launch([sys.executable, "-m", "tests.fixtures.team_program", str(folder), *how], 2)


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project_root())
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_two_processes_of_which_one_is_killed_go_on_to_what_one_process_learns(tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    expected = learn(alone)
    with pytest.raises(TrainingError, match=r"process 1 was killed by signal 9.*run the stage again"):
        run(tmp_path, "die")
    assert not (tmp_path / "curve.json").exists()
    run(tmp_path)
    curve = json.loads((tmp_path / "curve.json").read_text())
    assert len(curve["train"]) == OPTIONS.max_epochs
    assert expected.train[0] - expected.train[-1] > 0.01  # there is something to agree on
    np.testing.assert_allclose(curve["train"], expected.train, atol=1e-4)
    np.testing.assert_allclose(curve["valid"], expected.valid, atol=1e-4)
    np.testing.assert_allclose(curve["ndcg"], expected.ndcg, atol=1e-4)
    assert curve["windows"] == expected.windows


def test_a_process_that_hangs_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="process 0 ended with exit code 2"):
        run(tmp_path, "hang")
    assert "process 0 lost touch with the others" in (tmp_path / "error0.txt").read_text()
    assert not (tmp_path / "curve.json").exists()


def test_the_shares_of_a_step_add_up_to_the_step() -> None:
    torch.manual_seed(0)
    known = interactions_from_events(tiny_events(), list(tiny_catalog()["item_id"]))
    sequences = make_sequences(known, OPTIONS.max_length)
    network = new_network(known, tiny_text(), OPTIONS)
    rng = np.random.default_rng(0)
    negatives = Negatives.draw(OPTIONS.schedule().objective, np.ones(len(network.ids), np.int64), rng)
    for drawn in batches(sequences, np.arange(len(sequences.question_at)), 3, 100, rng):
        batch = augment(drawn, Augment(crop=0.5, mask=0.3, reorder=0.3), rng)
        whole = batch_loss(network, batch, negatives, OPTIONS.schedule())
        parts, rows = [], 0
        for rank in range(4):  # one more than there are windows
            part, share = Team(rank, 4).part(batch, network.seen)
            rows += len(part.rows)
            if len(part.rows):
                parts.append(batch_loss(network, part, negatives, OPTIONS.schedule()) * share)
        assert rows == len(batch.rows)
        assert len(parts) <= 3
        torch.testing.assert_close(sum(parts), whole)


def test_one_process_alone_exchanges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert not distributed.launched()
    assert distributed.together(lambda: 7) == 7
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.full((2,), 3.0)
    assert Team().sum_up([weight], 0.5) == 0.5
    assert weight.grad.tolist() == [3.0, 3.0]
    assert Team().agree(True)
