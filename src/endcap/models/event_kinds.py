"""How an event was, beside its item and its time: what, how many pieces, at what price, where, in which country. One number.

The number is of mixed radix, so that windows and batches carry one column whatever a shop knows; `EventKinds` reads it.
Edges are fixed powers, not quantiles of a shop: they mean the same to a parent and to its updates.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from endcap.data.features import COUNTRIES, SURFACE_CODES, TYPES, Floats, Ints

PIECES_EDGES = (1.5, 3.5, 7.5, 15.5, 31.5, 63.5, 127.5)
PRICE_EDGES = tuple(2.0**power for power in range(-2, 21))  # of one piece; any currency lies somewhere in here
KNOWN_PRICES = len(PRICE_EDGES) + 1
SIZES = (len(TYPES), len(PIECES_EDGES) + 1, KNOWN_PRICES + 1, len(SURFACE_CODES), COUNTRIES + 1)  # last price: not known


def kinds_of(types_N: Ints, quantities_N: Floats, prices_N: Floats, surfaces_N: Ints, countries_N: Ints) -> Ints:
    """(N,) the kind of each event, by its type code, its pieces, the price of one (NaN: not known), its surface and country.

    >>> amounts = np.array([[12.0], [2.5]], np.float32)
    >>> kind = kinds_of(np.array([4]), *amounts, np.array([1]), np.array([43]))
    >>> [int(place[0]) for place in np.unravel_index(kind, SIZES)]
    [4, 3, 4, 1, 43]
    """
    pieces = np.searchsorted(PIECES_EDGES, quantities_N)
    prices = np.where(np.isnan(prices_N), KNOWN_PRICES, np.searchsorted(PRICE_EDGES, prices_N))
    return np.asarray(np.ravel_multi_index((types_N, pieces, prices, surfaces_N, countries_N), SIZES))


class EventKinds(nn.Module):
    """The vector of a kind: the sum of one of its type and pieces, one of its price, one of its surface, one of its country."""

    def __init__(self, dim: int, deviation: float, *, countries: bool) -> None:
        super().__init__()
        self.acts = nn.Embedding(SIZES[0] * SIZES[1], dim)
        self.prices = nn.Embedding(SIZES[2], dim)
        self.surfaces = nn.Embedding(SIZES[3], dim)
        for table in (self.acts, self.prices, self.surfaces):
            nn.init.normal_(table.weight, std=deviation)
        self.countries = silent_table(SIZES[4], dim, unknown=0) if countries else None

    def forward(self, kinds: Tensor) -> Tensor:
        """(…, D) of kinds (…)."""
        rest, country = kinds // SIZES[4], kinds % SIZES[4]
        rest, surface = rest // SIZES[3], rest % SIZES[3]
        whole: Tensor = self.acts(rest // SIZES[2]) + self.prices(rest % SIZES[2]) + self.surfaces(surface)
        return whole if self.countries is None else whole + self.countries(country)


def silent_table(size: int, dim: int, unknown: int | None = None) -> nn.Embedding:
    """(size, D) zeros: what training never sees says nothing, and neither does the row `unknown`, whatever it sees."""
    zeros = torch.zeros(size, dim)
    table: nn.Embedding = nn.Embedding.from_pretrained(zeros, freeze=False, padding_idx=unknown)  # type: ignore[no-untyped-call]
    return table
