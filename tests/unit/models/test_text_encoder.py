"""The packaged encoder: likeness, the cache, the limit in time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from endcap.errors import ConfigError
from endcap.models.text_encoder import TextEncoder

TEXTS = ["red ceramic mug", "crimson tea cup", "garden hose 20 metres", ""]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("texts")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_like_texts_have_like_vectors_and_none_has_none(cache: Path) -> None:
    vectors, left = TextEncoder(batch_size=4, cache=cache).encode(TEXTS)
    assert (vectors.shape, left) == ((4, 384), 0)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    assert not vectors[3].any()
    again, _ = TextEncoder(batch_size=4, cache=cache).encode(TEXTS[::-1])
    np.testing.assert_array_equal(again, vectors[::-1])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_vector_does_not_depend_on_its_neighbours(cache: Path) -> None:
    alone, _ = TextEncoder(batch_size=4).encode(TEXTS[:1])
    together, _ = TextEncoder(batch_size=4, cache=cache).encode(TEXTS)
    np.testing.assert_array_equal(alone[0], together[0])


def test_known_texts_need_no_model(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    TextEncoder(batch_size=4, cache=cache).encode(TEXTS)
    monkeypatch.setattr(TextEncoder, "_model", lambda self: pytest.fail("the model was loaded"))
    TextEncoder(batch_size=4, cache=cache).encode(TEXTS)


def test_time_that_runs_out_is_told(tmp_path: Path) -> None:
    vectors, left = TextEncoder(batch_size=1, cache=tmp_path).encode(TEXTS[:3], max_seconds=0)
    assert left == 3
    assert not vectors.any()


def test_a_torn_cache_is_encoded_anew(tmp_path: Path) -> None:
    encoder = TextEncoder(batch_size=4, cache=tmp_path)
    assert encoder.cache_file is not None
    encoder.cache_file.write_bytes(b"torn")
    vectors, _ = encoder.encode(TEXTS[:1])
    assert vectors.any()


def test_an_unknown_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"encode\.model: the text encoder cannot be loaded.*no-such-folder"):
        TextEncoder(str(tmp_path / "no-such-folder")).encode(["a"])
