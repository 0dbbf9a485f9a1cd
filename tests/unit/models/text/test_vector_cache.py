"""Kept by content: what was added is found, a torn file is made anew, two writers do not lose each other's work."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from endcap.models.text.vector_cache import ASKED_AT_ONCE, VectorCache

ONE, TWO = np.array([0.5, 1.0], np.float32), np.array([2.0, 0.0], np.float32)


def test_two_writers_add_to_one_file(tmp_path: Path) -> None:
    first, second = VectorCache(tmp_path / "v.sqlite"), VectorCache(tmp_path / "v.sqlite")
    assert first.read([b"a"]) == {}
    first.add({b"a": ONE})
    second.add({b"b": TWO, b"a": TWO})
    found = first.read([b"a", b"b", b"c"])
    np.testing.assert_array_equal(found[b"a"], ONE)  # the first stays
    np.testing.assert_array_equal(found[b"b"], TWO)
    assert set(found) == {b"a", b"b"}
    assert first.width() == 2


def test_more_keys_than_are_asked_at_once_are_found(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "v.sqlite")
    keys = [number.to_bytes(4, "big") for number in range(ASKED_AT_ONCE + 3)]
    cache.add(dict.fromkeys(keys, ONE))
    assert set(cache.read(keys)) == set(keys)


def test_a_torn_file_is_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "v.sqlite"
    for use in (lambda cache: cache.read([b"a"]), lambda cache: cache.width(), lambda cache: cache.add({b"a": ONE})):
        file.write_bytes(b"torn" * 500)
        use(VectorCache(file))
        VectorCache(file).add({b"b": TWO})
        assert set(VectorCache(file).read([b"b"])) == {b"b"}
