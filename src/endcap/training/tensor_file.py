"""Named tensors in a safetensors file, as a checkpoint wants it: written whole or not at all, and a torn file reads as none."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: dict[str, str]) -> None:
    """Write them with facts beside, in place of what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}, partial, metadata=facts)
    os.replace(partial, path)  # noqa: PTH105 -- atomic on one file system


def read_tensors(path: Path | None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and facts; nothing where there is no file, or one torn by a killed process."""
    if path is None or not path.exists():
        return {}, {}
    try:
        with safe_open(path, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118 -- not a dict
    except (SafetensorError, OSError):
        return {}, {}


def of_group(tensors: Mapping[str, Tensor], group: str) -> dict[str, Tensor]:
    """Those whose name begins with `group/`, without it."""
    return {name.removeprefix(f"{group}/"): tensor for name, tensor in tensors.items() if name.startswith(f"{group}/")}


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimiser, in the group `optimiser`."""
    state = optimiser.state_dict()["state"]
    return {f"optimiser/{n}/{name}": torch.as_tensor(value) for n, own in state.items() for name, value in own.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Bring an optimiser to the state that `optimiser_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in of_group(tensors, "optimiser").items():
        number, key = name.split("/", 1)
        state.setdefault(int(number), {})[key] = tensor
    optimiser.load_state_dict(optimiser.state_dict() | {"state": state})
