"""Distances between mixes, and what is usual."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from endcap.monitoring.distances import gaussian_kernel, leave_one_out, mmd, psi, usual

counts = arrays(np.float64, 5, elements=st.integers(0, 50).map(float)).filter(lambda a: a.sum() > 0)


@given(counts, counts)
def test_psi_is_symmetric_and_never_negative(p: np.ndarray, q: np.ndarray) -> None:
    assert psi(p, q) >= 0
    assert psi(p, q) == pytest.approx(psi(q, p))


@given(counts, st.permutations(range(5)))
def test_psi_does_not_know_the_order_of_groups(p: np.ndarray, order: list[int]) -> None:
    q = np.arange(1.0, 6.0)
    assert psi(p[order], q[order]) == pytest.approx(psi(p, q))


def test_psi_of_an_empty_group_is_finite() -> None:
    assert psi(np.array([10.0, 0.0]), np.array([0.0, 10.0])) == pytest.approx(2 * 0.9999 * np.log(1e4), rel=1e-3)


def test_mmd_grows_with_how_far_apart_the_points_are() -> None:
    angles = np.array([0.0, 0.2, 1.5])
    kernel = gaussian_kernel(np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32))
    one, near, far = np.eye(3)
    assert mmd(kernel, one, one * 7) == 0.0
    assert 0 < mmd(kernel, one, near) < mmd(kernel, one, far)


def test_leave_one_out_compares_each_block_with_the_others() -> None:
    blocks = np.array([[10.0, 10.0], [10.0, 10.0], [19.0, 1.0], [0.0, 0.0]])
    distances = leave_one_out(blocks, psi)
    assert len(distances) == 3  # the block without rows says nothing
    assert distances[2] == pytest.approx(psi(np.array([20.0, 20.0]), np.array([19.0, 1.0])))
    assert usual(distances) == distances[0]
