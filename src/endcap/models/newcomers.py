"""Places of a slate for newcomers: items that nobody has taken yet and that have a text to know them by.

What nobody has taken, learnt weights keep far below, and what stays far below nobody takes. A few places further down the
slate, for those that suit the shopper best, break that circle (docs/adr/0013). Shapes: B shoppers, I items, P places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from endcap.models.history import Floats

LAST_PLACE = 200


@dataclass(frozen=True, slots=True)
class NewcomerPlaces:
    """Every so manieth place from `first` on, counted among the items that are new to the shopper; `every` 0: none."""

    first: int = 11  # a slate of ten stays as it is
    every: int = 4

    def give(self, scores_BI: Floats, held_BI: npt.NDArray[np.bool_], newcomers_I: npt.NDArray[np.bool_]) -> Floats:
        """Scores with the best newcomers raised to their places: none is lowered, all else keeps its order.

        `held_BI`: what is in the shopper's history. It takes no place, so leaving it out later lifts no newcomer.

        >>> places = NewcomerPlaces(first=2, every=2)
        >>> scores = np.array([[5.0, 4.0, 3.0, 2.0, -8.0, -9.0]], np.float32)
        >>> places.give(scores, scores > 9, scores[0] < 0)
        array([[5. , 4. , 3. , 2. , 4.5, 3.5]], dtype=float32)
        """
        newcomers = np.flatnonzero(newcomers_I)
        settled = len(newcomers_I) - len(newcomers)
        if not self.every or not len(newcomers) or not len(scores_BI):
            return scores_BI
        ahead = np.arange(self.first - 1, LAST_PLACE, self.every)[: len(newcomers)]
        ahead -= np.arange(len(ahead))  # of each place, how many settled items
        ahead = ahead[ahead < settled]
        if not len(ahead):
            return scores_BI
        depth = int(ahead[-1]) + 1
        settled_BI = np.where(held_BI | newcomers_I, -np.inf, scores_BI)
        best_BD = -np.sort(-np.partition(settled_BI, -depth, axis=1)[:, -depth:], axis=1)
        above_BP = np.where(ahead > 0, best_BD[:, ahead - 1], best_BD[:, :1] + 1)
        place_BP = (above_BP + best_BD[:, ahead]) / 2
        own_BN = scores_BI[:, newcomers]
        best_BP = np.argsort(-own_BN, axis=1, kind="stable")[:, : len(ahead)]
        raised_BP = np.maximum(np.take_along_axis(own_BN, best_BP, axis=1), place_BP)
        given_BI = scores_BI.copy()
        np.put_along_axis(given_BI, newcomers[best_BP], raised_BP, axis=1)
        return given_BI
