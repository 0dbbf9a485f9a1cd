"""Which number format matrix products run in: what the machine has decides, never a clock, so that runs repeat."""

from __future__ import annotations

import contextlib

import torch


def autocast(precision: str, device: str = "cpu") -> contextlib.AbstractContextManager[None]:
    """A context in which the forward pass runs: `auto`, `bf16` or `fp32`."""
    if choose(precision, device) == "bf16":
        return torch.autocast(device, torch.bfloat16)
    return contextlib.nullcontext()


def choose(precision: str, device: str = "cpu") -> str:
    """`bf16` or `fp32`; `auto`: bf16 on a GPU that has it. On a CPU casts cost a small model what its products gain."""
    if precision != "auto":
        return precision
    return "bf16" if device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


def for_large_products() -> str:
    """`bf16` on a CPU with AMX, where a text encoder is twice as fast with it, else `fp32`."""
    return "bf16" if torch.cpu._is_amx_tile_supported() else "fp32"
