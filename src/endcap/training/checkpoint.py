"""A resumable checkpoint after each epoch: weights, optimiser and curve as safetensors, written whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from endcap.training.schedule import Curve, Schedule


class Checkpoint:
    """One file; `path` None keeps nothing. A checkpoint of another schedule or other shapes is ignored."""

    def __init__(self, path: Path | None, schedule: Schedule) -> None:
        self.path = path
        self.key = json.dumps(dataclasses.asdict(schedule), sort_keys=True)
        self.best_weights: dict[str, Tensor] = {}

    def save(self, model: nn.Module, optimiser: torch.optim.Optimizer, curve: Curve, best: dict[str, Tensor]) -> None:
        """Write the state after an epoch."""
        if self.path is None:
            return
        tensors: dict[str, Tensor] = {f"model.{name}": weight for name, weight in model.named_parameters()}
        tensors |= {f"best.{name}": weight for name, weight in best.items()}
        for number, state in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{name}": torch.as_tensor(value) for name, value in state.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        contiguous = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
        save_file(contiguous, partial, metadata={"key": self.key, "curve": json.dumps(dataclasses.asdict(curve))})
        os.replace(partial, self.path)  # noqa: PTH105 -- atomic on one file system

    def restore(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> Curve:
        """The curve so far, with model and optimiser as they were; an empty curve if there is nothing to resume."""
        tensors, metadata = self._read()
        own = {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
        shapes = {name: weight.shape for name, weight in model.named_parameters()}
        if metadata.get("key") != self.key or {name: tensor.shape for name, tensor in own.items()} != shapes:
            return Curve()
        model.load_state_dict(own, strict=False)
        self.best_weights = {name.removeprefix("best."): tensor for name, tensor in tensors.items() if name.startswith("best.")}
        state: dict[int, dict[str, Any]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimiser."):
                _, number, key = name.split(".", 2)
                state.setdefault(int(number), {})[key] = tensor
        optimiser.load_state_dict(optimiser.state_dict() | {"state": state})
        return Curve(**json.loads(metadata["curve"]))

    def _read(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        if self.path is None or not self.path.exists():
            return {}, {}
        try:
            with safe_open(self.path, framework="pt") as opened:
                return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118 -- not a dict
        except (SafetensorError, OSError):
            return {}, {}  # a torn file from a killed process: start anew
