"""Places of a slate drawn one by one from the head of the candidates, by chances that are known exactly.

Shapes: H candidates of the head, M utilities of each. The chance of a place is that of its item given what stands above and
what the rules of the shelf still allow, so the chance of a slate is the product of its places. Not here: where utilities come
from (policies.py), and what rules allow (ranking/placing.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Chances = Callable[[Mask], Floats]  # (H,) which candidates are open → (H,) chances: 0 where closed, one in sum


def best_of(utilities_MH: Floats) -> Chances:
    """How many of the M utilities call an open candidate the best (ties: the first). M = 1: the best, with certainty.

    With utilities drawn from a posterior these are Thompson's chances by Monte Carlo, and exact for who draws by them.

    >>> best_of(np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]]))(np.array([False, True, True]))
    array([0. , 0.5, 0.5])
    """

    def chances(open_H: Mask) -> Floats:
        best_M = np.where(open_H, utilities_MH, -np.inf).argmax(axis=1)
        return np.bincount(best_M, minlength=len(open_H)) / len(best_M)

    return chances


def plackett_luce(logits_H: Floats) -> Chances:
    """exp(logit) over the sum of those that are open (Luce 1959, Plackett 1975).

    >>> plackett_luce(np.log([1.0, 2.0, 6.0]))(np.array([True, False, True])).round(3)
    array([0.143, 0.   , 0.857])
    """

    def chances(open_H: Mask) -> Floats:
        open_logits = np.where(open_H, logits_H, -np.inf)
        weights_H = np.exp(open_logits - open_logits.max())
        return np.asarray(weights_H / weights_H.sum())

    return chances


def mixed(chances: Chances, floor: float) -> Chances:
    """A share `floor` of the draws is even among what is open, so that each candidate has at least floor / H everywhere.

    >>> mixed(plackett_luce(np.array([0.0, -1e9])), 0.1)(np.array([True, True]))
    array([0.95, 0.05])
    """

    def with_floor(open_H: Mask) -> Floats:
        return np.asarray((1 - floor) * chances(open_H) + floor * open_H / open_H.sum())

    return with_floor if floor else chances


Allowed = Callable[[int], bool]
Drawn = tuple[int, Mapping[int, float]]  # an item, and the chances of all that could have come in its place


class Behind(Protocol):
    """Who goes on when nothing of the head is left (`ranking.placing.InOrder`)."""

    def next(self, allowed: Allowed) -> Drawn | None: ...


class Drawing:
    """Fills places from the head, whose items `head_H` stand the best first, while any of it is allowed; then `behind` does."""

    def __init__(self, head_H: Sequence[int], chances: Chances, behind: Behind, random: np.random.Generator) -> None:
        self._head, self._chances, self._behind, self._random = head_H, chances, behind, random
        self._open = list(range(len(head_H)))  # places of the head

    def next(self, allowed: Allowed) -> Drawn | None:
        """The item of a place, and the chances of all that could have come; None when nothing is allowed.

        What is not allowed once never is again.
        """
        self._open = [place for place in self._open if allowed(self._head[place])]
        if not self._open:
            return self._behind.next(allowed)
        open_H = np.zeros(len(self._head), np.bool_)
        open_H[self._open] = True
        chances_H = self._chances(open_H)
        places = np.flatnonzero(chances_H)  # nothing without a chance is drawn, however sums are rounded
        upto = chances_H[places].cumsum()
        drawn = min(int(upto.searchsorted(self._random.random() * upto[-1], side="right")), len(places) - 1)
        items = [self._head[place] for place in places.tolist()]
        return items[drawn], dict(zip(items, chances_H[places].tolist(), strict=True))
