"""Which folders and models are taken as text encoders, and what the others are told."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tests.fixtures.tiny_encoder import build_tiny_encoder

from endcap.errors import ConfigError
from endcap.models.text import pretrained
from endcap.models.text.encoder import TextEncoder

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_encoder(tmp_path_factory.mktemp("tiny"))


def test_a_folder_without_a_model_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"encode\.model.*no config\.json"):
        TextEncoder(str(tmp_path))
    with pytest.raises(ConfigError, match="no such folder"):
        TextEncoder("./nowhere")


def test_a_folder_without_a_tokenizer_or_without_weights_is_refused(tiny: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(tiny, tmp_path / "bare"))
    for file in bare.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ConfigError, match=r"encode\.model: the text encoder cannot be loaded"):
        pretrained.load(str(bare))
    torn = Path(shutil.copytree(tiny, tmp_path / "torn"))
    (torn / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(ConfigError, match=r"encode\.model: the text encoder cannot be loaded"):
        pretrained.load(str(torn))


def test_a_tokenizer_of_another_model_is_refused(tiny: Path, tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    mixed = Path(shutil.copytree(tiny, tmp_path / "mixed"))
    config = BertConfig(vocab_size=6, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    BertModel(config).save_pretrained(mixed)
    with pytest.raises(ConfigError, match=r"does not read plain text|belongs to another model"):
        pretrained.load(str(mixed))


def test_the_encoder_of_an_encoder_decoder_is_taken(tiny: Path, tmp_path: Path) -> None:
    from transformers import T5Config, T5Model

    both = Path(shutil.copytree(tiny, tmp_path / "both"))
    T5Model(T5Config(vocab_size=32, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)).save_pretrained(both)
    vectors, left = TextEncoder(str(both), batch_size=2).encode(["red cup", "garden hose"])
    assert (vectors.shape, left) == ((2, 16), 0)
    assert vectors.any(axis=1).all()


def test_a_model_that_is_kept_in_half_precision_is_read_in_full(tiny: Path, tmp_path: Path) -> None:
    from transformers import AutoModel

    AutoModel.from_pretrained(tiny).half().save_pretrained(half := Path(shutil.copytree(tiny, tmp_path / "half")))
    assert {one.dtype for one in pretrained.load(str(half))[1].parameters()} == {torch.float32}


def test_two_models_of_one_size_have_two_fingerprints(tiny: Path, tmp_path: Path) -> None:
    other = build_tiny_encoder(tmp_path / "other", seed=1)
    same = build_tiny_encoder(tmp_path / "same")
    assert pretrained.fingerprint(str(other)) != pretrained.fingerprint(str(tiny)) == pretrained.fingerprint(str(same))
