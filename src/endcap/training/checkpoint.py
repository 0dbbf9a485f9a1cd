"""A resumable checkpoint after each epoch: weights, their average, optimiser and curve."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.training.averaging import WeightAverage
from endcap.training.schedule import Curve, Schedule
from endcap.training.tensor_file import of_group, optimiser_tensors, read_tensors, restore_optimiser, write_tensors

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch
    from torch import Tensor, nn


class Checkpoint:
    """One file; `path` None keeps nothing. A checkpoint of another schedule, other shapes or other data is ignored.

    `about`: what is learnt from, in arrays.
    """

    def __init__(self, path: Path | None, schedule: Schedule, about: Iterable[npt.NDArray[Any]]) -> None:
        self.path = path
        self.key = json.dumps([dataclasses.asdict(schedule), digest_of(about) if path else ""], sort_keys=True)
        self.best_weights: dict[str, Tensor] = {}

    def save(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        average: WeightAverage,
        curve: Curve,
        best: dict[str, Tensor],
    ) -> None:
        """Write the state after an epoch."""
        if self.path is None:
            return
        groups: dict[str, dict[str, Tensor]] = {"best": best, "average": average.weights}
        groups["model"] = dict(model.named_parameters())
        tensors = {f"{group}/{name}": weight for group, weights in groups.items() for name, weight in weights.items()}
        facts = {"key": self.key, "curve": json.dumps(dataclasses.asdict(curve)), "averaged_steps": str(average.steps)}
        write_tensors(self.path, tensors | optimiser_tensors(optimiser), facts)

    def restore(self, model: nn.Module, optimiser: torch.optim.Optimizer, average: WeightAverage) -> Curve:
        """The curve so far, with model, optimiser and average as they were; an empty curve if there is nothing to resume."""
        tensors, facts = read_tensors(self.path)
        own = of_group(tensors, "model")
        shapes = {name: weight.shape for name, weight in model.named_parameters()}
        if facts.get("key") != self.key or {name: tensor.shape for name, tensor in own.items()} != shapes:
            return Curve()
        model.load_state_dict(own, strict=False)
        self.best_weights = of_group(tensors, "best")
        average.weights, average.steps = of_group(tensors, "average"), int(facts["averaged_steps"])
        restore_optimiser(optimiser, tensors)
        return Curve(**json.loads(facts["curve"]))


def digest_of(arrays: Iterable[npt.NDArray[Any]]) -> str:
    """A digest of the arrays' shapes and bytes, in order."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(repr((array.shape, array.dtype.str)).encode() + array.tobytes())
    return total.hexdigest()
