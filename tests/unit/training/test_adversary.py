"""The fast gradient step by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from endcap.training.adversary import with_adversary

WANTED = torch.tensor([[3.0, 4.0], [1.0, 0.0]])


def far(items: Tensor) -> Tensor:
    """Half the squared distance of the first two items from where they should be; the third does not matter."""
    return (items[:2] - WANTED).square().sum() / 2


def test_items_move_away_by_a_share_of_their_length() -> None:
    items = torch.tensor([[3.0, 0.0], [2.0, 0.0], [5.0, 5.0]], requires_grad=True)
    # Gradients are (0, -4) and (1, 0): the first (length 3) moves by 0.3 down, the second (length 2) by 0.2 to the right.
    loss = with_adversary(far, items, 0.1)
    assert loss.item() == pytest.approx(((16 + 1) / 2 + (4.3**2 + 1.2**2) / 2) / 2)
    loss.backward()  # type: ignore[no-untyped-call]
    assert items.grad is not None
    torch.testing.assert_close(items.grad, torch.tensor([[0.0, -4.15], [1.1, 0.0], [0.0, 0.0]]))


def test_off_the_loss_is_asked_once() -> None:
    asked: list[Tensor] = []

    def counted(items: Tensor) -> Tensor:
        asked.append(items)
        return far(items)

    items = torch.ones(3, 2, requires_grad=True)
    assert with_adversary(counted, items, 0.0).item() == far(items).item()
    assert len(asked) == 1
    with_adversary(counted, items, 0.1)
    assert len(asked) == 3
