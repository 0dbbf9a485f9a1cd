"""The running average of a network's weights over its steps: what is judged and kept, in place of the last step's noise.

Exponential, as of Polyak & Juditsky (1992) and common since; over the first steps the average is shorter, so that the random
start is soon forgotten.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class WeightAverage:
    """`decay` 0: the weights as they are."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.weights: dict[str, Tensor] = {}
        if decay:
            self.weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}

    def update(self, model: nn.Module) -> None:
        """Take in the weights after a step."""
        if not self.weights:
            return
        self.steps += 1
        kept = min(self.decay, self.steps / (self.steps + 9))
        named = dict(model.named_parameters())
        torch._foreach_lerp_([self.weights[name] for name in named], [weight.detach() for weight in named.values()], 1 - kept)

    @contextlib.contextmanager
    def in_place(self, model: nn.Module) -> Iterator[None]:
        """The model has the average for its weights within."""
        if not self.weights:
            yield
            return
        own = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        model.load_state_dict(self.weights, strict=False)
        try:
            yield
        finally:
            model.load_state_dict(own, strict=False)
