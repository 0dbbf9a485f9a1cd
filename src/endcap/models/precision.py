"""Which number format matrix products run in on this machine: bfloat16 where it is faster, which is measured, never assumed."""

from __future__ import annotations

import contextlib
import functools
import time

import torch

SIZE = 192
CLEARLY_FASTER = 1.5


def autocast(precision: str, device: str = "cpu") -> contextlib.AbstractContextManager[None]:
    """A context in which the forward pass runs: `auto` (bf16 where clearly faster), `bf16` or `fp32`."""
    if choose(precision, device) == "bf16":
        return torch.autocast(device, torch.bfloat16)
    return contextlib.nullcontext()


def choose(precision: str, device: str = "cpu") -> str:
    """`bf16` or `fp32`; `auto` is decided once a process by a small matrix product, on a GPU by what it supports."""
    if precision != "auto":
        return precision
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if bf16_speedup() >= CLEARLY_FASTER else "fp32"


@functools.cache
def bf16_speedup() -> float:
    """How many times faster a bf16 product is than fp32 here: 10 with AMX, far below 1 where bf16 is emulated."""
    seconds = {}
    for kind in (torch.float32, torch.bfloat16):
        left, right = torch.ones(SIZE, SIZE, dtype=kind), torch.ones(SIZE, SIZE, dtype=kind)
        best = float("inf")
        for _ in range(4):  # the first is the warm-up; the best of the rest is robust against a busy machine
            start = time.perf_counter()
            left @ right
            best = min(best, time.perf_counter() - start)
        seconds[kind] = best
    return seconds[torch.float32] / seconds[torch.bfloat16]
