"""Turn a shop's texts into vectors, in a space learnt from them: how their fields weigh, and their whitening.

The encoder itself is taught before (text/adaptation.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from endcap.errors import TrainingError
from endcap.models.text.space import TextSpace, fit_space
from endcap.models.text.vector_cache import Floats
from endcap.progress import Progress, spaced
from endcap.sections import Encode
from endcap.training.text.field_weights import weigh_fields
from endcap.training.text.objectives import Ints

Lessons = Callable[[], tuple[list[str], Ints]]  # distinct texts, and the pairs of them that a shopper took in a row


@dataclass(frozen=True, slots=True)
class Reader:
    """Encodes texts, all of them within one span of time; `cache` keeps vectors by content between runs."""

    batch_size: int
    cache: Path | None
    ends: float  # by time.monotonic()
    max_seconds: float
    show: Progress

    def __call__(self, space: TextSpace, texts: Sequence[str]) -> Floats:
        """(N, E) vectors.

        Raises:
            TrainingError: time ran out; what is done is in the cache, where there is one.
        """

        def told(done: int) -> None:
            self.show(f"{done:,} of {len(texts):,} texts encoded")

        vectors, left = space.encode(texts, self.batch_size, self.cache, self.ends - time.monotonic(), told)
        if left:
            again = "Run again: the texts done so far are cached by content, and it goes on from there; or raise"
            raise TrainingError(
                f"time ran out with {left:,} of {len(texts):,} texts not encoded",
                field="encode.max_seconds",
                value=self.max_seconds,
                action=f"{again if self.cache else 'Raise'} encode.max_seconds in params.yaml.",
            )
        return vectors


def reader(knobs: Encode, cache: Path | None, progress: Progress) -> Reader:
    """A reader whose time begins now."""
    return Reader(knobs.batch_size, cache, time.monotonic() + knobs.max_seconds, knobs.max_seconds, spaced(progress))


def learn_space(
    raw: TextSpace, texts: Sequence[str], lessons: Lessons, knobs: Encode, read: Reader, seed: int
) -> tuple[TextSpace, Floats]:
    """The space that `encode` of params.yaml asks for, from an encoder as it is, and the texts' vectors in it (N, E).

    `lessons` is called only where fields are weighed.

    Raises:
        TrainingError: time ran out.
    """
    space, whitened = raw, knobs.whitening == "pca"
    if knobs.fields == "weighed":
        distinct, pairs_P2 = lessons()
        space = weigh_fields(raw, distinct, pairs_P2, lambda plain: read(raw, plain), seed, whitened=whitened)
    vectors = read(space, texts)
    if whitened:
        space = fit_space(space, vectors, knobs.dims)
        vectors = space.whitening.apply(vectors) if space.whitening else vectors
    return space, vectors
