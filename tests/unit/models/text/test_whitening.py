"""Whitened vectors: every direction counts alike, nothing stays nothing, few rows are hardly changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from endcap.errors import ConfigError, TrainingError
from endcap.models.text.space import FILE, TextSpace, fit_space, load_space
from endcap.models.text.whitening import fit_whitening


def narrow_cone(rows: int = 2000) -> np.ndarray:
    """Unit vectors with a large common part and unequal spreads, as sentence encoders make them."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(rows, 6)) * [2.0, 1.0, 0.5, 0.3, 0.2, 0.1] + [3.0, 0, 0, 0, 0, 0]
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_every_direction_counts_alike_afterwards() -> None:
    vectors = narrow_cone()
    whitening = fit_whitening(vectors)
    assert whitening
    spread = np.linalg.eigvalsh(np.cov((vectors - whitening.mean) @ whitening.projection, rowvar=False))
    assert spread.max() / spread.min() < 1.5 < np.linalg.cond(np.cov(vectors, rowvar=False))
    whitened = whitening.apply(vectors)
    assert np.linalg.norm(whitened.mean(axis=0)) < np.linalg.norm(vectors.mean(axis=0)) / 3, "little of the common part is left"


def test_nothing_stays_nothing_and_does_not_count() -> None:
    vectors = np.concatenate([narrow_cone(), np.zeros((500, 6), np.float32)])
    whitening, without = fit_whitening(vectors), fit_whitening(vectors[:2000])
    assert whitening
    assert without
    np.testing.assert_allclose(whitening.mean, without.mean)
    found = whitening.apply(vectors)
    assert not found[2000:].any()
    np.testing.assert_allclose(np.linalg.norm(found[:2000], axis=1), 1.0, rtol=1e-5)


def test_a_tiny_catalogue_keeps_what_is_near() -> None:
    """Unshrunk, any 4 rows in 6 dimensions would come out equally far from each other."""
    random = np.random.default_rng(1)
    pair = random.normal(size=(2, 6)).repeat(2, axis=0) + 0.05 * random.normal(size=(4, 6))
    whitening = fit_whitening(pair.astype(np.float32))
    assert whitening
    likeness = (found := whitening.apply(pair.astype(np.float32))) @ found.T
    assert likeness[0, 1] > likeness[0, 2] + 0.5
    assert fit_whitening(np.zeros((5, 6), np.float32)) is None
    assert fit_whitening(np.ones((5, 6), np.float32)) is None


def test_dims_keeps_the_widest_directions() -> None:
    cut, whole = fit_whitening(narrow_cone(), 2), fit_whitening(narrow_cone())
    assert cut
    assert whole
    np.testing.assert_array_equal(cut.projection, whole.projection[:, :2])


def test_a_space_is_read_as_it_was_kept(tmp_path: Path) -> None:
    space = fit_space(TextSpace("minilm", 48, 2), narrow_cone(), None)
    space.save(tmp_path)
    again = load_space(tmp_path)
    assert again
    assert again.whitening
    assert space.whitening
    assert (again.model, again.max_tokens, again.max_chunks) == ("minilm", 48, 2)
    np.testing.assert_array_equal(again.whitening.apply(narrow_cone()), space.whitening.apply(narrow_cone()))
    assert load_space(tmp_path / "older") is None
    (tmp_path / FILE).write_bytes(b"torn")
    with pytest.raises(ConfigError, match="cannot be read as a text space"):
        load_space(tmp_path)


def test_vectors_of_another_width_are_refused() -> None:
    whitening = fit_whitening(narrow_cone())
    assert whitening
    with pytest.raises(TrainingError, match=r"fitted on vectors of 6 dimensions.*got 4"):
        whitening.apply(np.ones((2, 4), np.float32))


def test_undone_vectors_point_from_the_mean_where_they_did() -> None:
    vectors = np.concatenate([narrow_cone(), np.zeros((1, 6), np.float32)])
    whitening = fit_whitening(vectors)
    assert whitening
    undone = whitening.undo(whitening.apply(vectors))
    centred = vectors[:-1] - whitening.mean
    np.testing.assert_allclose(undone[:-1], centred / np.linalg.norm(centred, axis=1, keepdims=True), atol=1e-4)
    assert not undone[-1].any()
