"""A tiny encoder learns which texts go together; a cut run ends as an uncut one; what cannot be learnt is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.fixtures.tiny_encoder import WORDS, build_tiny_encoder

from endcap.errors import ConfigError, TrainingError
from endcap.models.text.encoder import TextEncoder
from endcap.training.text import adaptation
from endcap.training.text.adaptation import adapt_encoder
from endcap.training.text.objectives import AdaptOptions, Lessons, neighbour_pairs

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
TEXTS = [f"{left} {right}" for left, right in zip(WORDS, WORDS[3:], strict=False)]
PAIRS = np.array([[number, (number + 5) % len(TEXTS)] for number in range(len(TEXTS))])
OPTIONS = AdaptOptions(
    steps=12, batch_size=8, learning_rate=0.01, rank=2, layers=1, checkpoint_steps=4, temperature=0.2, max_tokens=8
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build_tiny_encoder(tmp_path_factory.mktemp("tiny")))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def likeness(model: str) -> float:
    """How much nearer the texts of a pair are than any two."""
    vectors, _ = TextEncoder(model, batch_size=16).encode(TEXTS)
    return float((vectors[PAIRS[:, 0]] * vectors[PAIRS[:, 1]]).sum(1).mean() - (vectors @ vectors.T).mean())


@pytest.mark.parametrize("peft", ["none", "lora", "adalora"])
def test_what_goes_together_comes_closer(tiny: str, tmp_path: Path, peft: str) -> None:
    options = replace(OPTIONS, peft=peft, steps=40, learning_rate=0.05 if peft == "adalora" else 0.01)
    curve = adapt_encoder(tiny, TEXTS, PAIRS, options, tmp_path / "encoder")
    assert len(curve) == 40
    assert np.mean(curve[-5:]) < np.mean(curve[:5])
    assert likeness(str(tmp_path / "encoder")) > likeness(tiny) + 0.05
    before, after = weights(Path(tiny)), weights(tmp_path / "encoder")
    assert set(before) == set(after), "merged: nothing of peft is left"
    changed = {name for name in before if not torch.equal(before[name].half(), after[name])}
    assert changed
    assert all(".layer.1." in name for name in changed), "layers: 1"


@pytest.mark.parametrize("method", ["mlm", "contrastive"])
def test_texts_alone_teach_too(tiny: str, tmp_path: Path, method: str) -> None:
    options = replace(OPTIONS, method=method, steps=30, layers=2)
    curve = adapt_encoder(tiny, TEXTS, PAIRS[:0], options, tmp_path / "encoder")
    assert np.mean(curve[-5:]) < np.mean(curve[:5])
    assert TextEncoder(str(tmp_path / "encoder")).encode(TEXTS)[0].any(axis=1).all()


@pytest.mark.parametrize(
    ("method", "peft"), [("mlm", "none"), ("behaviour", "none"), ("contrastive", "lora"), ("behaviour", "adalora")]
)
def test_a_cut_run_ends_as_an_uncut_one(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, peft: str
) -> None:
    options = replace(OPTIONS, method=method, peft=peft)
    whole = adapt_encoder(tiny, TEXTS, PAIRS, options, tmp_path / "whole")
    real, checkpoint = adaptation._step, tmp_path / "checkpoint.safetensors"

    def killed(learner: object, lessons: Lessons, step: int) -> float:
        if step == 10:
            raise KeyboardInterrupt
        return real(learner, lessons, step)

    monkeypatch.setattr(adaptation, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        adapt_encoder(tiny, TEXTS, PAIRS, options, tmp_path / "cut", checkpoint)
    resumed: list[int] = []
    monkeypatch.setattr(adaptation, "_step", lambda *given: resumed.append(given[2]) or real(*given))
    assert adapt_encoder(tiny, TEXTS, PAIRS, options, tmp_path / "cut", checkpoint) == whole
    assert resumed[0] == 8
    for name, one in weights(tmp_path / "whole").items():
        assert torch.equal(one, weights(tmp_path / "cut")[name]), name
    resumed.clear()
    adapt_encoder(tiny, TEXTS, PAIRS, replace(options, seed=7), tmp_path / "other", checkpoint)
    assert resumed[0] == 0, "a checkpoint of another run is not gone on from"


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Lessons.loss
    monkeypatch.setattr(Lessons, "loss", lambda self, net, step: real(self, net, step) * (float("nan") if step == 6 else 1.0))
    with pytest.raises(TrainingError, match=r"adapt\.learning_rate: the loss is nan at step 7"):
        adapt_encoder(tiny, TEXTS, PAIRS, OPTIONS, tmp_path / "encoder", tmp_path / "checkpoint.safetensors")
    assert (tmp_path / "checkpoint.safetensors").exists()
    assert not (tmp_path / "encoder").exists()


def test_time_that_runs_out_is_an_error_that_goes_on(tiny: str, tmp_path: Path) -> None:
    late = replace(OPTIONS, steps=2, max_seconds=0.0)
    with pytest.raises(TrainingError, match=r"adapt\.max_seconds: time ran out after step 1 of 2.*goes on"):
        adapt_encoder(tiny, TEXTS, PAIRS, late, tmp_path / "encoder", tmp_path / "checkpoint.safetensors")
    assert len(adapt_encoder(tiny, TEXTS, PAIRS, late, tmp_path / "encoder", tmp_path / "checkpoint.safetensors")) == 2


def test_memory_that_runs_out_names_the_setting(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes")

    monkeypatch.setattr(Lessons, "loss", full)
    with pytest.raises(TrainingError, match=r"adapt\.batch_size: out of memory; got 8\. Lower it"):
        adapt_encoder(tiny, TEXTS, PAIRS, OPTIONS, tmp_path / "encoder")


def test_too_little_to_learn_from_is_said(tiny: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="too few pairs"):
        adapt_encoder(tiny, TEXTS, PAIRS[:1], OPTIONS, tmp_path / "encoder")
    with pytest.raises(TrainingError, match="too few texts"):
        adapt_encoder(tiny, TEXTS[:1], PAIRS, replace(OPTIONS, method="mlm"), tmp_path / "encoder")


def test_a_model_without_masked_words_is_refused_for_them(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2Model

    folder = build_tiny_encoder(tmp_path / "gpt")
    GPT2Model(GPT2Config(vocab_size=32, n_embd=16, n_layer=1, n_head=2, n_positions=32)).save_pretrained(folder)
    with pytest.raises(ConfigError, match=r"adapt\.method: .*no head for masked words"):
        adapt_encoder(str(folder), TEXTS, PAIRS, replace(OPTIONS, method="mlm"), tmp_path / "encoder")


def test_pairs_are_neighbours_of_one_shopper() -> None:
    users, texts = np.array([0, 0, 0, 1, 1]), np.array([3, 4, 4, 5, 3])
    assert neighbour_pairs(users, texts).tolist() == [[3, 4], [5, 3]]
