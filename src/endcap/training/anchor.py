"""An anchor against forgetting: each step of an update also draws the weights towards those it began with.

L2-SP of Li, Grandvalet and Davoine (2018), "Explicit inductive bias for transfer learning", decoupled from the gradient as
AdamW decouples weight decay.
"""

from __future__ import annotations

import torch
from torch import nn


class Anchor:
    """`strength` 0: none. A step at learning rate r moves each weight by r x strength of the way back."""

    def __init__(self, model: nn.Module, strength: float) -> None:
        self.strength = strength
        self.weights = [weight.detach().clone() for weight in model.parameters()] if strength else []

    def draw(self, model: nn.Module, learning_rate: float) -> None:
        """Draw the model's weights, in place."""
        if self.weights:
            own = [weight.detach() for weight in model.parameters()]
            torch._foreach_lerp_(own, self.weights, min(learning_rate * self.strength, 1.0))
