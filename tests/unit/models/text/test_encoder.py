"""The packaged encoder: likeness, the cache, the limit in time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.fixtures.tiny_encoder import build_tiny_encoder

from endcap.errors import ConfigError
from endcap.models.text import encoder as encoding
from endcap.models.text.encoder import TextEncoder

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
    assert encoder.cache.path is not None
    encoder.cache.path.write_bytes(b"torn")
    vectors, _ = encoder.encode(TEXTS[:1])
    assert vectors.any()


def test_an_unknown_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"encode\.model: the text encoder cannot be loaded.*no such folder.*no-such-folder"):
        TextEncoder(str(tmp_path / "no-such-folder")).encode(["a"])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build_tiny_encoder(tmp_path_factory.mktemp("tiny")))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_looks_the_same_is_the_same_in_any_script(cache: Path) -> None:
    same = ["Red ceramic mug", "Ｒed  ceramic\u200b&nbsp;mug\n"]
    arabic, signs = "كوب سيراميك أحمر", ["🙂🙂", "红色陶瓷杯", "\ud800", "\u200b"]  # MiniLM's vocabulary lacks these characters
    vectors, left = TextEncoder(batch_size=4, cache=cache).encode([*same, arabic, *signs])
    assert left == 0
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert vectors[2].any()
    assert not vectors[3:].any(), "a text of unknown signs must not be like every other such text"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_each_token_of_a_long_text_counts_the_same(tiny: str) -> None:
    text = "red cup " * 6 + "garden hose"
    short = TextEncoder(tiny, max_tokens=6, batch_size=2).encode([text])[0][0]
    assert np.array_equal(short, TextEncoder(tiny, max_tokens=6, batch_size=2).encode(["red cup " * 2])[0][0])
    encoder = TextEncoder(tiny, max_tokens=6, batch_size=2, max_chunks=9)
    chunks, owners = encoder._chunks([text])
    sums = sum(encoder._batch([ids], 8)[0] for ids in chunks)
    assert owners == [0] * 4
    np.testing.assert_allclose(encoder.encode([text])[0][0], sums / np.linalg.norm(sums), atol=1e-3)
    two = TextEncoder(tiny, max_tokens=6, batch_size=2, max_chunks=2)
    assert len(two._chunks([text, "tea"])[0]) == 3


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_model_is_never_asked_for_more_than_it_reads(tmp_path: Path) -> None:
    model = build_tiny_encoder(tmp_path, positions=8)
    vectors, left = TextEncoder(str(model), max_tokens=64, batch_size=2).encode(["red cup " * 500])
    assert left == 0
    assert vectors.any()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_was_done_before_time_ran_out_is_kept(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(encoding.time, "monotonic", lambda: next(clock))
    texts = ["red", "blue cup", "tea"]
    shown: list[int] = []
    assert TextEncoder(tiny, batch_size=1, cache=tmp_path).encode(texts, max_seconds=2, progress=shown.append)[1] == 1
    assert shown == [1, 2]
    vectors, left = TextEncoder(tiny, batch_size=1, cache=tmp_path).encode(texts, max_seconds=1)
    assert left == 0
    assert vectors.any(axis=1).all()
