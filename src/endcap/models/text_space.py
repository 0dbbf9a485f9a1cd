"""How a model's item texts became vectors: the encoder, its settings and the whitening, kept with the model.

A new item must land in the space that the model was trained in, so an update and the drift check encode with the space of the
model at hand, never with today's params.yaml.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from endcap.errors import ConfigError
from endcap.models import pretrained
from endcap.models.text_encoder import TextEncoder
from endcap.models.vector_cache import Floats
from endcap.models.whitening import Whitening, fit_whitening

FILE = "text_space.safetensors"
ENCODER = "encoder"  # the folder of adapted weights, beside the file


@dataclass(frozen=True)
class TextSpace:
    """`model`: `encode.model`, or "encoder" when adapted weights lie in `folder`. `whitening` None: raw vectors."""

    model: str
    max_tokens: int
    max_chunks: int = 1
    whitening: Whitening | None = None
    folder: Path | None = None

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
        vectors_NE, left = encoder.encode(texts, max_seconds, progress)
        return (self.whitening.apply(vectors_NE) if self.whitening else vectors_NE), left

    def save(self, folder: Path) -> None:
        """Write the space to `folder`, adapted weights included."""
        import numpy as np

        folder.mkdir(parents=True, exist_ok=True)
        facts = {"model": self.model, "max_tokens": self.max_tokens, "max_chunks": self.max_chunks}
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
        return TextSpace(**facts, whitening=Whitening(**arrays) if arrays else None, folder=folder)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"cannot be read as a text space ({error})", field=str(folder / FILE), action="Train the model again."
        ) from error


def fit_space(raw: TextSpace, vectors_NE: Floats, dims: int | None) -> TextSpace:
    """`raw` with a whitening fitted on the catalogue's vectors (none when there are too few texts)."""
    return TextSpace(raw.model, raw.max_tokens, raw.max_chunks, fit_whitening(vectors_NE, dims), raw.folder)


def raw_space(model: str, max_tokens: int, max_chunks: int, adapted: Path | None = None) -> TextSpace:
    """The space of an encoder as it is; `adapted`: a folder that holds adapted weights in `encoder`."""
    if adapted and (adapted / ENCODER).is_dir():
        return TextSpace(ENCODER, max_tokens, max_chunks, folder=adapted)
    pretrained.resolve(model)
    return TextSpace(model, max_tokens, max_chunks)
