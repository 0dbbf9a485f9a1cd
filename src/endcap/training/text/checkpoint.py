"""The state of an adaptation under way: what learns, its optimiser, the curve, and AdaLoRA's memory of what matters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.training.tensor_file import of_group, optimiser_tensors, read_tensors, restore_optimiser, write_tensors

if TYPE_CHECKING:
    import torch
    from torch import Tensor

IMPORTANCE = ("ipt", "exp_avg_ipt", "exp_avg_unc")  # of peft's RankAllocator, each a tensor by parameter


class TextCheckpoint:
    """One file; `path` None keeps nothing. One of another run (`key`) is ignored."""

    def __init__(self, path: Path | None, key: str) -> None:
        self.path, self.key = path, key

    def save(self, learner: Any, optimiser: torch.optim.Optimizer, curve: list[float]) -> None:
        """Write the state after a step."""
        if self.path is None:
            return
        tensors = {f"weight/{name}": one for name, one in _moving(learner).items()}
        ranks, pattern = _allocator(learner)
        for kind in IMPORTANCE if ranks else ():
            tensors |= {f"{kind}/{name}": one for name, one in getattr(ranks, kind).items()}
        facts = {"key": self.key, "curve": json.dumps(curve), "pattern": json.dumps(pattern)}
        write_tensors(self.path, tensors | optimiser_tensors(optimiser), facts)

    def restore(self, learner: Any, optimiser: torch.optim.Optimizer) -> list[float]:
        """The curve so far, with learner and optimiser as they were; empty if there is nothing to resume."""
        tensors, facts = read_tensors(self.path)
        if facts.get("key") != self.key:
            return []
        moving, (ranks, _) = _moving(learner), _allocator(learner)
        for name, tensor in of_group(tensors, "weight").items():
            moving[name].data.copy_(tensor)
        for kind in IMPORTANCE if ranks else ():
            getattr(ranks, kind).update(of_group(tensors, kind))
        restore_optimiser(optimiser, tensors)
        if pattern := json.loads(facts["pattern"]):
            learner.peft_config["default"].rank_pattern = pattern
        curve: list[float] = json.loads(facts["curve"])
        return curve


def _moving(learner: Any) -> dict[str, Tensor]:
    """What the optimiser moves, and the ranks that AdaLoRA sets by hand."""
    return {name: one for name, one in learner.named_parameters() if one.requires_grad or "ranknum" in name}


def _allocator(learner: Any) -> tuple[Any, Any]:
    """AdaLoRA's allocator and its rank pattern, or (None, None)."""
    ranks = getattr(getattr(learner, "base_model", None), "rankallocator", None)
    return ranks, (learner.peft_config["default"].rank_pattern if ranks else None)
