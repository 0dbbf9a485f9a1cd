"""What a text encoder is taught by: masked words, a text against itself, or texts of items that one shopper took in a row.

A lesson gives the loss of one step. Its batch depends on the seed and the step alone, so that a resumed run repeats what was
cut. Not here: the loop, the parameters that learn, the files (adaptation.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

Ints = npt.NDArray[np.int64]
MASKED_SHARE = 0.15
IGNORED = -100  # a label that cross-entropy leaves out


@dataclass(frozen=True, slots=True)
class AdaptOptions:
    """The section `adapt` of params.yaml."""

    method: Literal["none", "mlm", "contrastive", "behaviour"] = "behaviour"
    peft: Literal["none", "lora", "adalora"] = "none"
    rank: int = 8
    alpha: float = 16.0
    layers: int = 3
    steps: int = 250
    batch_size: int = 64
    learning_rate: float = 5e-5
    temperature: float = 0.05
    max_tokens: int = 24
    checkpoint_steps: int = 25
    seed: int = 42
    max_seconds: float = 1200.0


def neighbour_pairs(users_N: npt.NDArray[Any], texts_N: npt.NDArray[Any]) -> Ints:
    """(P, 2): texts that stand next to each other in one shopper's history and differ. Rows are sorted by user and time.

    >>> neighbour_pairs(np.array([0, 0, 0, 1]), np.array([5, 6, 6, 7])).tolist()
    [[5, 6]]
    """
    pairs: Ints = np.stack([texts_N[:-1], texts_N[1:]], axis=1).astype(np.int64)
    kept: Ints = pairs[(users_N[:-1] == users_N[1:]) & (texts_N[:-1] != texts_N[1:])]
    return kept


class Lessons:
    """Batches and losses over token lists; `pairs_P2` is read by `behaviour` alone."""

    def __init__(self, tokens: list[list[int]], pairs_P2: Ints, tokenizer: Any, options: AdaptOptions) -> None:
        self.tokens, self.pairs, self.tokenizer, self.options = tokens, pairs_P2, tokenizer, options
        self.together = np.unique(np.concatenate([self._key(pairs_P2), self._key(pairs_P2[:, ::-1])]))

    def loss(self, network: Any, step: int) -> Tensor:
        """The loss of step `step`, a scalar."""
        random = np.random.default_rng([self.options.seed, step])
        if self.options.method == "mlm":
            return self._masked_words(network, self._draw(random, 2 * self.options.batch_size), random)
        if self.options.method == "contrastive":
            texts = self._draw(random, self.options.batch_size)
            return self._contrast(network, np.stack([texts, texts], axis=1))
        size = min(self.options.batch_size, len(self.pairs))
        return self._contrast(network, self.pairs[random.choice(len(self.pairs), size, replace=False)])

    def _draw(self, random: np.random.Generator, size: int) -> Ints:
        return random.choice(len(self.tokens), min(size, len(self.tokens)), replace=False)

    def _contrast(self, network: Any, pairs_B2: Ints) -> Tensor:
        """InfoNCE in both directions (SimCSE, arXiv:2104.08821); what is known to go together is no negative."""
        vectors = self._embed(network, pairs_B2.T.reshape(-1))
        left_BE, right_BE = vectors.chunk(2)
        scores_BB = left_BE @ right_BE.T / self.options.temperature
        a_B, b_B = pairs_B2.T
        table = np.stack(np.broadcast_arrays(a_B[:, None], b_B[None]), axis=-1)
        clash_BB = np.isin(self._key(table), self.together) | (table[..., 0] == table[..., 1])
        clash_BB |= (b_B[:, None] == b_B[None]) | (a_B[:, None] == a_B[None])
        np.fill_diagonal(clash_BB, False)
        scores_BB = scores_BB.masked_fill(torch.from_numpy(clash_BB), float("-inf"))
        answer_B = torch.arange(len(pairs_B2))
        return (functional.cross_entropy(scores_BB, answer_B) + functional.cross_entropy(scores_BB.T, answer_B)) / 2

    def _embed(self, network: Any, texts: Ints) -> Tensor:
        ids, mask = self._pad(texts)
        hidden = network(input_ids=ids, attention_mask=mask).last_hidden_state
        weight = mask[..., None].to(hidden.dtype)
        return functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=1)

    def _masked_words(self, network: Any, texts: Ints, random: np.random.Generator) -> Tensor:
        """BERT's recipe: of 15 % of the words, 80 % are hidden, 10 % replaced, 10 % left."""
        ids, mask = self._pad(texts)
        special = torch.isin(ids, torch.tensor(self.tokenizer.all_special_ids)) | (mask == 0)
        chosen = torch.from_numpy(random.random(ids.shape) < MASKED_SHARE) & ~special
        if not chosen.any():
            chosen = ~special  # a batch of very few words
        fate = torch.from_numpy(random.random(ids.shape))
        words = torch.from_numpy(random.integers(0, len(self.tokenizer), ids.shape))
        shown = torch.where(chosen & (fate < 0.8), self.tokenizer.mask_token_id, ids)
        shown = torch.where(chosen & (fate > 0.9), words, shown)
        loss: Tensor = network(
            input_ids=shown, attention_mask=mask, labels=torch.where(chosen, ids, IGNORED)
        ).loss  # fmt: skip
        return loss

    def _pad(self, texts: Ints) -> tuple[Tensor, Tensor]:
        """Token ids and mask, (B, L)."""
        rows = [self.tokens[text] for text in texts]
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, own in enumerate(rows):
            ids[row, : len(own)], mask[row, : len(own)] = torch.tensor(own), 1
        return ids, mask

    def _key(self, pairs: Ints) -> Ints:
        keys: Ints = pairs[..., 0] * len(self.tokens) + pairs[..., 1]
        return keys
