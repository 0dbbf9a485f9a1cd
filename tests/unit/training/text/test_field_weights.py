"""What the fields of texts weigh: the one that tells what goes together counts, noise does not, and the space keeps it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.fixtures.tiny_encoder import build_tiny_encoder

from endcap.models.text.space import TextSpace, load_space
from endcap.models.text.vector_cache import Floats
from endcap.training.text.field_weights import learn_weights, weigh_fields
from endcap.training.text.objectives import Ints

TEXTS, GROUPS, WIDTH = 120, 12, 24


def vectors(seed: int, groups: np.ndarray | None = None) -> Floats:
    """(TEXTS, WIDTH) of length one: noise, or near one centre a group."""
    random = np.random.default_rng(seed)
    found = random.normal(size=(TEXTS, WIDTH)) * (1.0 if groups is None else 0.3)
    if groups is not None:
        found += random.normal(size=(GROUPS, WIDTH))[groups]
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


@pytest.fixture
def groups() -> np.ndarray:
    return np.arange(TEXTS) % GROUPS


@pytest.fixture
def pairs(groups: np.ndarray) -> Ints:
    """Shoppers take two items of a group in a row."""
    random = np.random.default_rng(0)
    left = random.integers(0, TEXTS, 2000)
    right = (left + GROUPS * random.integers(1, TEXTS // GROUPS, 2000)) % TEXTS
    assert (groups[left] == groups[right]).all()
    return np.stack([left, right], axis=1)


@pytest.mark.parametrize("whitened", [True, False])
def test_the_field_that_tells_what_goes_together_counts(groups: np.ndarray, pairs: Ints, *, whitened: bool) -> None:
    noise, telling = vectors(1), vectors(2, groups)
    weights = learn_weights(vectors(3), np.stack([noise, telling]), pairs, 0, whitened=whitened)
    assert len(weights) == 2
    assert weights[1] > 10 * weights[0]
    assert weights == learn_weights(vectors(3), np.stack([noise, telling]), pairs, 0, whitened=whitened)


def test_fields_that_tell_nothing_get_no_weights(groups: np.ndarray, pairs: Ints) -> None:
    whole = vectors(2, groups)
    shuffled = np.random.default_rng(5).permutation(pairs.reshape(-1)).reshape(-1, 2)
    assert learn_weights(whole, np.stack([vectors(1), np.zeros_like(whole)]), pairs, 0, whitened=True) in {(), (0.0, 0.0)}
    assert learn_weights(vectors(3), np.stack([vectors(1), vectors(4)]), shuffled, 0, whitened=True) == ()


def test_a_space_reads_fields_by_their_weights_and_keeps_them(tmp_path: Path) -> None:
    model = str(build_tiny_encoder(tmp_path / "encoder"))
    plain, weighed = TextSpace(model, 16), TextSpace(model, 16, field_weights=(0.5, 2.0))
    texts = ["red cup\ngarden", "red cup\ntea", "red cup", "\ntea", ""]
    weighed.save(tmp_path / "space")
    again = load_space(tmp_path / "space")
    assert again is not None
    assert again.field_weights == (0.5, 2.0)
    found, left = again.encode(texts, 8)
    assert left == 0
    whole, _ = plain.encode(texts, 8)
    first, _ = plain.encode(["red cup", "red cup", "red cup", "", ""], 8)
    second, _ = plain.encode(["garden", "tea", "", "tea", ""], 8)
    expected = whole + 0.5 * first + 2.0 * second
    expected /= np.maximum(np.linalg.norm(expected, axis=1, keepdims=True), 1e-9)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_array_equal(plain.encode(["red cup\n\ngarden\nred cup"], 8)[0], plain.encode(["red cup. garden"], 8)[0])


def test_texts_of_one_field_or_hardly_any_pairs_leave_the_space_as_it_is(pairs: Ints) -> None:
    space = TextSpace("minilm", 16)

    def encode(texts: list[str]) -> Floats:
        raise AssertionError(texts)

    one = [f"cup {number}" for number in range(TEXTS)]
    two = [f"cup {number}\nred" for number in range(TEXTS)]
    assert weigh_fields(space, one, pairs, encode, 0, whitened=True) is space
    assert weigh_fields(space, two, pairs[:50], encode, 0, whitened=True) is space
