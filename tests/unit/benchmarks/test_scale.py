"""The two things that the benchmark of a large catalogue brings along are what they say: an exact search, AdamW by rows."""

from __future__ import annotations

import torch

from benchmarks.scale import top_grouped
from benchmarks.scale_steps import Rows


def test_the_grouped_search_is_exact() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, items = torch.randn(3, 4, generator=generator), torch.randn(1003, 4, generator=generator)
    expected = (queries @ items.T).topk(7, dim=1).indices
    torch.testing.assert_close(top_grouped(queries, items, 7, block=96), expected)


def test_rows_that_every_step_touches_move_as_adamw_moves_them_and_others_decay() -> None:
    start = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    dense = torch.nn.Parameter(start.clone())
    optimiser = torch.optim.AdamW([dense], lr=0.1, weight_decay=0.2, betas=(0.9, 0.98))
    rows, touched = Rows(start.clone(), 0.1, 0.2, (0.9, 0.98)), torch.tensor([1, 3])
    for step in range(4):
        gradient = torch.full((2, 2), 1.0 + step)
        dense.grad = torch.zeros(5, 2).index_copy(0, touched, gradient)
        optimiser.step()
        rows.step(touched, gradient)
    torch.testing.assert_close(rows.read(torch.arange(5)), dense.detach())
