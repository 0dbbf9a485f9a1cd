"""The fast gradient method (Miyato et al. 2017): learn also from items moved to where the loss is worst."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def with_adversary(loss_of: Callable[[Tensor], Tensor], items_ID: Tensor, epsilon: float) -> Tensor:
    """The mean of the loss of the items' vectors and of that of the moved ones. Twice the work of a step; none at 0.

    Each vector moves by `epsilon` times its own length (so that no scale of vectors has to be known) along its gradient:
    v_i + epsilon |v_i| g_i / |g_i|. A vector without a gradient stays.
    """
    loss = loss_of(items_ID)
    if not epsilon or not items_ID.requires_grad:
        return loss
    (gradient,) = torch.autograd.grad(loss, items_ID, retain_graph=True)
    length = items_ID.detach().norm(dim=1, keepdim=True)
    step = epsilon * length * gradient / gradient.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return (loss + loss_of(items_ID + step)) / 2
