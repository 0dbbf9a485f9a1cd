"""The state of an adaptation under way: what learns, its optimiser, the curve, and AdaLoRA's memory of what matters."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

IMPORTANCE = ("ipt", "exp_avg_ipt", "exp_avg_unc")  # of peft's RankAllocator, each a tensor by parameter


class TextCheckpoint:
    """One file, written whole or not at all; `path` None keeps nothing. One of another run (`key`) is ignored."""

    def __init__(self, path: Path | None, key: str) -> None:
        self.path, self.key = path, key

    def save(self, learner: Any, optimiser: torch.optim.Optimizer, curve: list[float]) -> None:
        """Write the state after a step."""
        if self.path is None:
            return
        tensors = {f"weight/{name}": one for name, one in _moving(learner).items()}
        for number, state in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser/{number}/{name}": torch.as_tensor(value) for name, value in state.items()}
        ranks, pattern = _allocator(learner)
        for kind in IMPORTANCE if ranks else ():
            tensors |= {f"rank/{kind}/{name}": one for name, one in getattr(ranks, kind).items()}
        facts = {"key": self.key, "curve": json.dumps(curve), "pattern": json.dumps(pattern)}
        partial = self.path.with_suffix(".partial")
        save_file({name: one.detach().clone().contiguous() for name, one in tensors.items()}, partial, metadata=facts)
        os.replace(partial, self.path)  # noqa: PTH105 -- atomic on one file system

    def restore(self, learner: Any, optimiser: torch.optim.Optimizer) -> list[float]:
        """The curve so far, with learner and optimiser as they were; empty if there is nothing to resume."""
        tensors, facts = self._read()
        if facts.get("key") != self.key:
            return []
        moving, state = _moving(learner), dict[int, dict[str, Tensor]]()
        ranks, _ = _allocator(learner)
        for name, tensor in tensors.items():
            kind, *rest = name.split("/", 2)
            if kind == "weight":
                moving["/".join(rest)].data.copy_(tensor)
            elif kind == "optimiser":
                state.setdefault(int(rest[0]), {})[rest[1]] = tensor
            else:
                getattr(ranks, rest[0])[rest[1]] = tensor
        optimiser.load_state_dict(optimiser.state_dict() | {"state": state})
        if pattern := json.loads(facts["pattern"]):
            learner.peft_config["default"].rank_pattern = pattern
        curve: list[float] = json.loads(facts["curve"])
        return curve

    def _read(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        if self.path is None or not self.path.exists():
            return {}, {}
        try:
            with safe_open(self.path, framework="pt") as opened:
                return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118 -- not a dict
        except (SafetensorError, OSError):
            return {}, {}  # a torn file from a killed process: start anew


def _moving(learner: Any) -> dict[str, Tensor]:
    """What the optimiser moves, and the ranks that AdaLoRA sets by hand."""
    return {name: one for name, one in learner.named_parameters() if one.requires_grad or "ranknum" in name}


def _allocator(learner: Any) -> tuple[Any, Any]:
    """AdaLoRA's allocator and its rank pattern, or (None, None)."""
    ranks = getattr(getattr(learner, "base_model", None), "rankallocator", None)
    return ranks, (learner.peft_config["default"].rank_pattern if ranks else None)
