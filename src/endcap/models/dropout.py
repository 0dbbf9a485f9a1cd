"""Dropout that draws eight numbers at once: on a CPU one 64-bit draw a place is a tenth of a small transformer's step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

STEPS = 256  # a share is rounded to a multiple of 1 / STEPS
LONG = torch.iinfo(torch.int64)


class Dropout(nn.Module):
    """As torch.nn.Dropout: in training sets a share of numbers to 0 and scales the others up so that the mean stays."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.dropped = round(share * STEPS)
        if not 0 <= self.dropped < STEPS:
            raise ValueError(f"dropout must be at least 0 and below 1, not {share}")

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.dropped:
            return x
        draws = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device).random_(LONG.min, None)
        kept = draws.view(torch.uint8)[: x.numel()].view(x.shape) >= self.dropped
        return x * kept.to(x.dtype).mul_(STEPS / (STEPS - self.dropped))
