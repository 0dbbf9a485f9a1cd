"""How a model's item texts became vectors: the encoder, its settings and the whitening, kept with the model.

A new item must land in the space that the model was trained in, so an update and the drift check encode with the space of the
model at hand, never with today's params.yaml.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from endcap.data.item_text import field_of, one_line
from endcap.errors import ConfigError
from endcap.models.text import pretrained
from endcap.models.text.encoder import TextEncoder
from endcap.models.text.vector_cache import Floats
from endcap.models.text.whitening import Whitening, fit_whitening

FILE = "text_space.safetensors"
ENCODER = "encoder"  # the folder of adapted weights, beside the file


@dataclass(frozen=True)
class TextSpace:
    """`model`: `encode.model`, or "encoder" when adapted weights lie in `folder`. `whitening` None: raw vectors.

    `field_weights`: how much each field of a text counts beside the text as a whole; none: the whole alone.
    """

    model: str
    max_tokens: int
    max_chunks: int = 1
    whitening: Whitening | None = None
    folder: Path | None = None
    field_weights: tuple[float, ...] = ()

    @property
    def source(self) -> str:
        """What the encoder is loaded from."""
        return str(self.folder / ENCODER) if self.model == ENCODER and self.folder else self.model

    def encode(
        self,
        texts: Sequence[str],
        batch_size: int,
        cache: Path | None = None,
        max_seconds: float = float("inf"),
        progress: Callable[[int], None] = lambda _: None,
    ) -> tuple[Floats, int]:
        """(N, D) of length one, zero where a text says nothing; and how many are left at zero because time ran out."""
        encoder = TextEncoder(self.source, self.max_tokens, batch_size, cache, self.max_chunks)
        begun = time.monotonic()
        vectors_NE, left = encoder.encode([one_line(text) for text in texts], max_seconds, progress)
        for place, weight in enumerate(self.field_weights):
            fields = [field_of(text, place) for text in texts]
            field_NE, missed = encoder.encode(fields, max_seconds - (time.monotonic() - begun), progress)
            vectors_NE, left = vectors_NE + weight * field_NE, left + missed
        if self.field_weights:
            vectors_NE /= np.maximum(np.linalg.norm(vectors_NE, axis=1, keepdims=True), 1e-9)
        return (self.whitening.apply(vectors_NE) if self.whitening else vectors_NE), left

    def save(self, folder: Path) -> None:
        """Write the space to `folder`, adapted weights included."""
        folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "model": self.model, "max_tokens": self.max_tokens, "max_chunks": self.max_chunks,
            "field_weights": self.field_weights,
        }  # fmt: skip
        arrays = asdict(self.whitening) if self.whitening else {"none": np.zeros(1, np.float32)}
        save_file(arrays, folder / FILE, metadata={"space": json.dumps(facts)})
        (folder / FILE).chmod(0o644)  # written readable by the owner alone; other processes read it
        if self.model == ENCODER and Path(self.source) != folder / ENCODER:
            shutil.copytree(self.source, folder / ENCODER, dirs_exist_ok=True)


def load_space(folder: Path) -> TextSpace | None:
    """The space kept in a model directory; None for a model from before there was one.

    Raises:
        ConfigError: the file is broken.
    """
    if not (folder / FILE).exists():
        return None
    try:
        with safe_open(folder / FILE, framework="numpy") as opened:
            facts = json.loads(opened.metadata()["space"])
            arrays = {name: opened.get_tensor(name) for name in opened.keys() if name != "none"}  # noqa: SIM118 -- not a dict
        facts["field_weights"] = tuple(facts.get("field_weights", ()))
        return TextSpace(**facts, whitening=Whitening(**arrays) if arrays else None, folder=folder)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"cannot be read as a text space ({error})", field=str(folder / FILE), action="Train the model again."
        ) from error


def fit_space(raw: TextSpace, vectors_NE: Floats, dims: int | None) -> TextSpace:
    """`raw` with a whitening fitted on the catalogue's vectors (none when there are too few texts)."""
    return replace(raw, whitening=fit_whitening(vectors_NE, dims))


def raw_space(model: str, max_tokens: int, max_chunks: int, adapted: Path | None = None) -> TextSpace:
    """The space of an encoder as it is; `adapted`: a folder that holds adapted weights in `encoder`."""
    if adapted and (adapted / ENCODER).is_dir():
        return TextSpace(ENCODER, max_tokens, max_chunks, folder=adapted)
    pretrained.resolve(model)
    return TextSpace(model, max_tokens, max_chunks)
