"""Dropout drops the share that was asked for, keeps the mean, repeats by seed, and rests in evaluation."""

from __future__ import annotations

import pytest
import torch

from endcap.models.dropout import Dropout


def test_the_share_and_the_mean() -> None:
    torch.manual_seed(0)
    dropped = Dropout(0.25)(torch.ones(400, 500))
    assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.005)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.005)
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])


def test_it_repeats_by_seed_and_hides_what_it_dropped_from_the_gradient() -> None:
    x = torch.ones(7, 3, requires_grad=True)
    torch.manual_seed(1)
    first = Dropout(0.5)(x)
    torch.manual_seed(1)
    assert torch.equal(first, Dropout(0.5)(x))
    first.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, first.detach())


def test_evaluation_changes_nothing() -> None:
    x = torch.randn(5)
    assert Dropout(0.9).eval()(x) is x
    assert Dropout(0.0)(x) is x


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_an_impossible_share_is_named(share: float) -> None:
    with pytest.raises(ValueError, match=str(share)):
        Dropout(share)
