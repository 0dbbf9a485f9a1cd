"""The text-aware sequential transformer: reads a shopper's newest events, scores every item of the catalogue.

An item's vector is an id embedding plus its projected text, so an item nobody has bought yet is scored by its text alone.
Events of one moment (a basket) form a set: attention sees everything up to and including the own moment, positions count
moments from the end, and a learnt decay per head makes older events matter less (SASRec, Kang & McAuley 2018, for baskets).
Shapes: B shoppers, T events, D dimensions, I items, W numbers of an item (D, or 2 D if not tied), E text dimensions (0: the
shop has no texts).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from endcap.models.dropout import Dropout
from endcap.models.event_kinds import EventKinds, kinds_of
from endcap.models.history import Floats, HistoryBatch
from endcap.models.occasions import Occasions, occasions_of

INITIAL = 0.02  # standard deviation of fresh embeddings; read by the blocks times sqrt(D)
GAP_EDGES_DAYS = (0.02, 0.5, 1.5, 3.5, 7.5, 14.5, 21.5, 30.5, 45.5, 60.5, 90.5, 180.5)


@dataclass(frozen=True, slots=True)
class SequenceShape:
    """What fixes the shapes of the weights."""

    dim: int
    layers: int
    heads: int
    max_length: int
    dropout: float
    text_dim: int
    tied: bool = True  # an item is read by the vector that it answers with; else it has two
    positions: Literal["from_end", "from_start", "none"] = "from_end"  # of moments
    context: bool = False  # countries of events; weekday, hour and surface of questions: heard

    @property
    def width(self) -> int:
        """Numbers of an item: D, or 2 D with what it answers with first and what it is read by last."""
        return self.dim if self.tied else 2 * self.dim


class Block(nn.Module):
    """Pre-norm attention over earlier events with a decay in time, then a feed-forward."""

    def __init__(self, shape: SequenceShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.attention_norm = nn.LayerNorm(shape.dim)
        self.qkv = nn.Linear(shape.dim, 3 * shape.dim)
        self.out = nn.Linear(shape.dim, shape.dim)
        self.decay = nn.Parameter(torch.linspace(-4.0, -1.0, shape.heads))
        self.forward_norm = nn.LayerNorm(shape.dim)
        self.expand = nn.Linear(shape.dim, 4 * shape.dim)
        self.shrink = nn.Linear(4 * shape.dim, shape.dim)
        self.dropout = Dropout(shape.dropout)

    def forward(self, x_BTD: Tensor, age_BTT: Tensor, seen_BTT: Tensor) -> Tensor:
        batch, length, dim = x_BTD.shape
        result: Tensor
        qkv = self.qkv(self.attention_norm(x_BTD)).view(batch, length, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        bias = -functional.softplus(self.decay).view(1, -1, 1, 1) * age_BTT[:, None]
        bias = bias.masked_fill(~seen_BTT[:, None], -1e9).to(query.dtype)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        x_BTD = x_BTD + self.dropout(self.out(mixed.transpose(1, 2).reshape(batch, length, dim)))
        result = x_BTD + self.dropout(self.shrink(functional.gelu(self.expand(self.forward_norm(x_BTD)))))
        return result


class SequenceModel(nn.Module):
    """Vectors of items and shoppers in one space; a score is their inner product."""

    def __init__(self, shape: SequenceShape, text_IE: Tensor, seen_I: Tensor) -> None:
        super().__init__()
        self.text: Tensor
        self.seen: Tensor
        self.has_text: Tensor
        self.shape = shape
        self.register_buffer("text", text_IE.float())  # (I, E)
        self.register_buffer("seen", seen_I.bool())  # (I,) bought in training: the id embedding means something
        self.register_buffer("has_text", self.text.any(dim=1), persistent=False)  # (I,)
        self.ids = nn.Parameter(torch.randn(len(text_IE), shape.width) * INITIAL)
        self.text_projection: nn.Linear | None = None
        if shape.text_dim:
            self.text_projection = nn.Linear(shape.text_dim, shape.width, bias=False)
        self.kinds = EventKinds(shape.dim, INITIAL, countries=shape.context)
        self.positions = nn.Embedding(shape.max_length, shape.dim) if shape.positions != "none" else None
        self.gaps = nn.Embedding(len(GAP_EDGES_DAYS) + 1, shape.dim)
        self.occasions = Occasions(shape.dim) if shape.context else None
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.dim)
        self.start = nn.Parameter(torch.zeros(shape.dim))  # the shopper before the first event
        self.dropout = Dropout(shape.dropout)
        nn.init.normal_(self.gaps.weight, std=INITIAL)
        if self.positions is not None:
            nn.init.normal_(self.positions.weight, std=INITIAL * math.sqrt(shape.dim))
        if self.text_projection is not None:
            nn.init.normal_(self.text_projection.weight, std=INITIAL)

    def item_vectors(self, codes_N: Tensor | None = None, keep_id_I: Tensor | None = None) -> Tensor:
        """(N, W) of these items, (I, W) of all. `keep_id_I` false: by its text alone (so is every item unseen in training)."""
        keep = self.seen if keep_id_I is None else self.seen & keep_id_I
        ids: Tensor = self.ids
        text = self.text
        if codes_N is not None:
            keep, ids = keep[codes_N], functional.embedding(codes_N, ids)
        vectors = ids * keep[:, None]
        if self.text_projection is not None:
            own: Tensor = self.text_projection(text if codes_N is None else text.index_select(0, codes_N))
            vectors = vectors + own
        return vectors

    def answering(self, items_NW: Tensor) -> Tensor:
        """(N, D) what shoppers' wishes are held against."""
        return items_NW[:, : self.shape.dim]

    def forward(
        self,
        items_IW: Tensor,
        codes_BT: Tensor,
        kinds_BT: Tensor,
        days_BT: Tensor,
        valid_BT: Tensor,
        shown_BT: Tensor | None = None,
    ) -> Tensor:
        """(B, T, D) the shopper after each event. `days` are event times, ascending; padding is at the end, not valid.

        Of an event that is not shown (None: all are) only its time and kind are read, not its item.
        """
        x: Tensor = functional.embedding(codes_BT, items_IW[:, -self.shape.dim :]) * math.sqrt(self.shape.dim)
        if shown_BT is not None:
            x = x * shown_BT[:, :, None]
        x = x + self.kinds(kinds_BT)
        if self.positions is not None:
            x = x + self.positions(self.places(days_BT, valid_BT))
        x = self.dropout(x)
        apart = days_BT[:, :, None] - days_BT[:, None, :]
        seen = (apart >= 0) & valid_BT[:, None, :]
        age = torch.log1p(apart.clamp(min=0))
        for block in self.blocks:
            x = block(x, age, seen)
        return x

    def places(self, days_BT: Tensor, valid_BT: Tensor) -> Tensor:
        """(B, T) how many later moments the window holds after each event's own, or how many earlier ones."""
        new = (days_BT[:, 1:] > days_BT[:, :-1]) & valid_BT[:, 1:]
        if self.shape.positions == "from_start":
            rank = functional.pad(new.cumsum(1), (1, 0))
        else:
            rank = functional.pad(new.flip(1).cumsum(1).flip(1), (0, 1))
        places: Tensor = rank.clamp(max=self.shape.max_length - 1)
        return places

    def queries(self, state_QD: Tensor, gap_days_Q: Tensor, occasions_Q: Tensor) -> Tensor:
        """(Q, D) what a shopper in this state wants after that many days, on that occasion (models/occasions.py)."""
        edges = torch.tensor(GAP_EDGES_DAYS, dtype=torch.float32, device=gap_days_Q.device)
        asked = state_QD + self.gaps(torch.bucketize(gap_days_Q, edges))
        if self.occasions is not None:
            asked = asked + self.occasions(occasions_Q)
        wanted: Tensor = self.norm(asked)
        return wanted

    @torch.inference_mode()
    def score(self, batch: HistoryBatch, items_IW: Tensor) -> Floats:
        """(B, I) log-probabilities of the next target items; a shopper without events gets those of a newcomer."""
        state = self.start.expand(batch.size, -1).clone()
        gap = torch.full((batch.size,), 365.0)
        rows, codes, kinds, days, valid = padded(batch, self.shape.max_length)
        if len(rows):
            hidden = self(items_IW, codes, kinds, days, valid)
            last = valid.sum(dim=1) - 1
            picked = torch.from_numpy(rows)
            state[picked] = hidden[torch.arange(len(rows)), last].float()
            gap[picked] = -days[torch.arange(len(rows)), last]
        occasion = torch.from_numpy(occasions_of(np.array([batch.now_us]), np.array([batch.asked_on])))
        logits = self.queries(state, gap, occasion.expand(batch.size)) @ self.answering(items_IW).T
        return np.asarray(torch.log_softmax(logits.float(), dim=1).numpy())


def padded(
    batch: HistoryBatch, length: int
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], Tensor, Tensor, Tensor, Tensor]:
    """The newest `length` events of each shopper with any: rows (R,), then codes, kinds, days (<= 0), valid (R, T)."""
    rows, first, counts = np.unique(batch.rows, return_index=True, return_counts=True)
    width = int(min(counts.max(initial=0), length))
    take = np.minimum(counts, length)
    places = np.arange(width)[None, :]
    valid = places < take[:, None]
    index = np.where(valid, (first + counts - take)[:, None] + places, 0)
    if not len(rows):
        none = torch.zeros(0, 0, dtype=torch.long)
        return rows, none, none, none.float(), none.bool()
    kinds = kinds_of(batch.types, batch.quantities, batch.prices, batch.surfaces, batch.countries)
    days = np.where(valid, -batch.ages[index], 0.0).astype(np.float32)
    arrays = (
        np.where(valid, batch.codes[index], 0),
        np.where(valid, kinds[index], 0),
        days,
        valid,
    )
    codes, kinds_, days_, valid_ = (torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)
    return rows, codes, kinds_, days_, valid_
