"""Texts to vectors by a pretrained transformer: the packaged MiniLM, or any transformers model by name or path.

A text's vector is the mean over its tokens, of length one. A long text may be read in chunks, each token counting the same.
Vectors are cached by the hash of model, settings and text, so that only texts never seen before cost time. Each chunk is read
in a batch of fixed shape, so that its vector does not depend on its neighbours.
"""

from __future__ import annotations

import hashlib
import html
import logging
import re
import time
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from endcap.models.precision import autocast, for_large_products
from endcap.models.text import pretrained
from endcap.models.text.vector_cache import Floats, VectorCache

logger = logging.getLogger(__name__)
LENGTH_STEP = 8  # token counts are padded up to a multiple of this
HASH_BYTES = 16
RULES = 2  # raise it when the same model and text come to give another vector
SLAB = 8_192  # texts encoded between two writes of the cache
MAX_CHARACTERS = 24  # of a text, for each token that is read of it: the rest is not even looked at
UNSEEN = re.compile(r"[\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\u00ad]")  # zero width, direction marks, soft hyphen


def normalise(text: str) -> str:
    """One spelling for what looks the same: HTML entities, compatible characters (NFKC), invisible ones and white space.

    >>> normalise("Ｔea &amp; cup\\u200b\\n ﬁne")
    'Tea & cup fine'
    """
    plain = UNSEEN.sub("", unicodedata.normalize("NFKC", html.unescape(text)))
    return " ".join("".join(" " if unicodedata.category(sign)[0] == "C" else sign for sign in plain).split())


class TextEncoder:
    """`encode(texts)` → (N, E) float32. `cache` None: nothing is kept. The model is loaded at the first text that needs it.

    max_tokens: a chunk's length, special tokens included, at most what the model reads. max_chunks: how many a text has.
    """

    def __init__(
        self,
        model: str = pretrained.PACKAGED,
        max_tokens: int = 48,
        batch_size: int = 64,
        cache: Path | None = None,
        max_chunks: int = 1,
    ) -> None:
        self.name, self.max_tokens, self.batch_size, self.max_chunks = model, max_tokens, batch_size, max_chunks
        identity = (
            f"{RULES}\0{for_large_products()}\0{max_tokens}\0{max_chunks}\0{pretrained.fingerprint(pretrained.resolve(model))}"
        )
        self.cache = VectorCache(cache / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.sqlite" if cache else None)
        self._loaded: tuple[Any, Any] | None = None

    def encode(
        self, texts: Sequence[str], max_seconds: float = float("inf"), progress: Callable[[int], None] = lambda _: None
    ) -> tuple[Floats, int]:
        """Vectors of length one, and how many texts were left at zero because time ran out.

        Zero is also the vector of a text without a word that the model knows: nothing, or signs alone.

        Raises:
            ConfigError: the model cannot be loaded.
        """
        plain = [normalise(text) for text in texts]
        hashes = [hashlib.sha256(text.encode(errors="replace")).digest()[:HASH_BYTES] for text in plain]
        known = self.cache.read(sorted({key for key, text in zip(hashes, plain, strict=True) if text}))
        missing = {key: text for key, text in zip(hashes, plain, strict=True) if text and key not in known}
        started, done = time.monotonic(), 0
        for begin in range(0, len(missing), SLAB):
            keys = list(missing)[begin : begin + SLAB]
            part = [missing[key] for key in keys]
            fresh = self._encode_slab(part, started + max_seconds, lambda count, before=done: progress(before + count))  # type: ignore[misc]
            vectors = {keys[place]: vector for place, vector in fresh.items()}
            self.cache.add(vectors)
            known |= vectors
            done += len(vectors)
            if len(vectors) < len(keys):
                logger.warning("encode_time_limit", extra={"left": len(missing) - done, "max_seconds": max_seconds})
                break
        width = len(next(iter(known.values()))) if known else self.cache.width() or self._width()
        vectors_NE = np.zeros((len(texts), width), np.float32)
        for row, key in enumerate(hashes):
            if key in known:
                vectors_NE[row] = known[key]
        return vectors_NE, len(missing) - done

    def _encode_slab(self, texts: list[str], deadline: float, progress: Callable[[int], None]) -> dict[int, Floats]:
        """The vectors of the texts that were done by the deadline, by place. Short chunks first."""
        chunks, owners = self._chunks(texts)
        waiting = np.bincount(owners, minlength=len(texts)) if owners else np.zeros(len(texts), int)
        done: dict[int, Floats] = {}
        buckets: dict[int, list[int]] = {}
        for place, ids in enumerate(chunks):
            buckets.setdefault(-(-len(ids) // LENGTH_STEP) * LENGTH_STEP, []).append(place)
        sums: dict[int, Floats] = {}
        readable = self._readable(chunks, owners, len(texts))
        for length, places in sorted(buckets.items()):
            for begin in range(0, len(places), self.batch_size):
                if time.monotonic() > deadline:
                    return done
                part = places[begin : begin + self.batch_size]
                for place, total in zip(part, self._batch([chunks[p] for p in part], length), strict=True):
                    owner = owners[place]
                    sums[owner] = sums[owner] + total if owner in sums else total
                    waiting[owner] -= 1
                    if not waiting[owner]:
                        done[owner] = _unit(sums.pop(owner)) * readable[owner]
                progress(len(done))
        return done

    def _chunks(self, texts: list[str]) -> tuple[list[list[int]], list[int]]:
        """Token ids, a list a chunk, and which text each belongs to."""
        tokenizer, network = self._model()
        length = min(self.max_tokens, pretrained.token_limit(tokenizer, network))
        cut = [text[: length * self.max_chunks * MAX_CHARACTERS] for text in texts]
        if self.max_chunks == 1 or not tokenizer.is_fast:
            return tokenizer(cut, truncation=True, max_length=length)["input_ids"], list(range(len(texts)))
        split = tokenizer(cut, truncation=True, max_length=length, return_overflowing_tokens=True)
        chunks: list[list[int]] = []
        owners: list[int] = []
        for ids, owner in zip(split["input_ids"], split["overflow_to_sample_mapping"], strict=True):
            if owners[-self.max_chunks :].count(owner) < self.max_chunks:
                chunks.append(ids)
                owners.append(owner)
        return chunks, owners

    def _readable(self, chunks: list[list[int]], owners: list[int], texts: int) -> Floats:
        """1 for a text with a token that means something, 0 for one of unknown or special tokens only: (texts,)."""
        empty = set(self._model()[0].all_special_ids)  # the unknown token is one of them
        found = np.zeros(texts, np.float32)
        for ids, owner in zip(chunks, owners, strict=True):
            if not empty.issuperset(ids):
                found[owner] = 1.0
        return found

    def _batch(self, tokens: list[list[int]], length: int) -> Floats:
        """The sum of the hidden states over each chunk's tokens: (chunks, E)."""
        ids = torch.zeros(self.batch_size, max(length, 1), dtype=torch.long)
        mask = torch.zeros_like(ids)
        mask[:, 0] = 1  # rows of padding must attend to something
        for row, own in enumerate(tokens):
            ids[row, : len(own)], mask[row, : len(own)] = torch.tensor(own, dtype=torch.long), 1
        with torch.inference_mode(), autocast(for_large_products()):
            hidden = self._model()[1](input_ids=ids, attention_mask=mask).last_hidden_state.float()
        return np.asarray((hidden * mask[..., None].float()).sum(1).numpy())[: len(tokens)]

    def _model(self) -> tuple[Any, Any]:
        if self._loaded is None:
            self._loaded = pretrained.load(self.name)
        return self._loaded

    def _width(self) -> int:
        return int(self._model()[1].config.hidden_size)


def _unit(vector_E: Floats) -> Floats:
    """Of length one, as the cache gives it back (half precision)."""
    unit: Floats = (vector_E / max(float(np.linalg.norm(vector_E)), 1e-9)).astype(np.float16).astype(np.float32)
    return unit
