"""What a learning policy knows of a candidate: a short vector, written down with each exposure, so that nothing is learnt from
what was not known then.

The first features are the same for every model; those of an item's vector are bound to one model version by name. Not here:
what is learnt from them (linear.py).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from endcap.contracts import Surface
from endcap.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
BUCKETS = 12  # of categories, by a hash that never changes
ITEM_DIMS = 24
NEW_SECONDS = 30 * 86_400
MOST = 3.0  # standard deviations of a score
FEATURE_SET = "linear-1"  # another number with any change of what these names mean
NAMES = (
    "one",
    "score",  # of the model, in standard deviations of the head
    "order",  # 1 / log2(1 + place in the model's order)
    "popularity",  # share of items that a stranger is shown later
    "price",  # share of items that cost less; 0.5 where unknown
    "new",  # listed within 30 days
    "bought",  # by this shopper
    "seen",  # clicked, viewed or put into the cart by this shopper
    "place",  # 1 / log2(1 + place of the slate): how much it is looked at
    *(f"on_{surface}" for surface in Surface),
    *(f"score_on_{surface}" for surface in Surface),
    *(f"category_{bucket}" for bucket in range(BUCKETS)),
)
_ITEMS = "items-"


def names_of(feature_set: str) -> tuple[str, ...]:
    """The features of a row, by what its exposure says.

    >>> len(names_of("linear-1")), names_of("linear-1+items-2@7")[-2:]
    (29, ('item_0@7', 'item_1@7'))

    Raises:
        InputError: written by another version of Endcap.
    """
    own, _, items = feature_set.partition("+")
    dims, _, version = items.removeprefix(_ITEMS).partition("@")
    if own != FEATURE_SET or (items and not (items.startswith(_ITEMS) and dims.isdigit() and version)):
        action = f"This version of Endcap knows {FEATURE_SET}; such exposures are not learnt from."
        raise InputError("is not known", field="feature_set", value=feature_set, action=action)
    return (*NAMES, *(f"item_{place}@{version}" for place in range(int(dims or 0))))


@dataclass(frozen=True, slots=True, eq=False)
class ItemFacts:
    """What does not change while a model serves, for its I items."""

    feature_set: str
    buckets: Ints  # (I,) of the category; -1: the shop gives none
    prices: Floats  # (I,) share of items that cost less
    listed: Floats  # (I,) seconds since 1970
    popularity: Floats  # (I,) share of items that a stranger was shown later when the model came into service
    reduced: Floats  # (I, E) the model's vectors, E <= ITEM_DIMS; E = 0: not asked for

    @classmethod
    def of(
        cls,
        categories: Iterable[str],
        prices: Floats,
        listed: Floats,
        stranger: npt.NDArray[np.float32],
        vectors: npt.NDArray[np.float32],
        version: str = "",
    ) -> ItemFacts:
        """`stranger` (I,): the model's scores for somebody of whom nothing is known.

        `version`: of the model, where its `vectors` (I, D) are to be features; "": they are not.
        """
        reduced = reduce(vectors) if version else np.zeros((len(prices), 0))
        bound = f"+{_ITEMS}{reduced.shape[1]}@{version}" if reduced.shape[1] else ""
        return cls(
            feature_set=FEATURE_SET + bound,
            buckets=np.array([zlib.crc32(name.encode()) % BUCKETS if name else -1 for name in categories], np.int64),
            prices=shares_below(prices),
            listed=np.asarray(listed, np.float64),
            popularity=shares_below(stranger),
            reduced=reduced,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Occasion:
    """What holds for all candidates of one request; items by position."""

    now: float  # seconds since 1970
    surface: str
    bought: frozenset[int] = frozenset()
    seen: frozenset[int] = frozenset()


def features(
    facts: ItemFacts,
    occasion: Occasion,
    items_N: Ints,
    scores_N: Floats,
    orders_N: Ints,
    places_N: Ints,
    mean: float,
    deviation: float,
) -> Floats:
    """(N, D) of candidates at places of the slate; orders and places count from 1, mean and deviation are of the head's scores.

    Columns: `names_of(facts.feature_set)`.
    """
    column = {name: place for place, name in enumerate(NAMES)}
    found = np.zeros((len(items_N), len(NAMES)))
    found[:, column["one"]] = 1
    score = standardised(scores_N, mean, deviation)
    found[:, column["score"]] = score
    found[:, column["order"]] = 1 / np.log2(1 + orders_N)
    found[:, column["popularity"]] = facts.popularity[items_N]
    found[:, column["price"]] = facts.prices[items_N]
    found[:, column["new"]] = occasion.now - facts.listed[items_N] < NEW_SECONDS
    found[:, column["bought"]] = [item in occasion.bought for item in items_N.tolist()]
    found[:, column["seen"]] = [item in occasion.seen for item in items_N.tolist()]
    found[:, column["place"]] = 1 / np.log2(1 + places_N)
    if f"on_{occasion.surface}" in column:
        found[:, column[f"on_{occasion.surface}"]] = 1
        found[:, column[f"score_on_{occasion.surface}"]] = score
    buckets_N = facts.buckets[items_N]
    named = np.flatnonzero(buckets_N >= 0)
    found[named, column["category_0"] + buckets_N[named]] = 1
    return np.hstack([found, facts.reduced[items_N]])


def standardised(scores_N: Floats, mean: float, deviation: float) -> Floats:
    """In standard deviations, at most MOST either way; 0 where all are alike.

    >>> standardised(np.array([1.0, 3.0]), 2.0, 1.0), standardised(np.array([1.0]), 1.0, 0.0)
    (array([-1.,  1.]), array([0.]))
    """
    return np.clip((scores_N - mean) / deviation, -MOST, MOST) if deviation > 0 else np.zeros(len(scores_N))


def shares_below(values_I: npt.NDArray[np.floating]) -> Floats:
    """(I,) how many of the known values lie below each, ties half; 0.5 where it is unknown.

    >>> shares_below(np.array([5.0, 1.0, np.nan, 5.0])).round(3)
    array([0.667, 0.167, 0.5  , 0.667])
    """
    known = np.sort(values_I[~np.isnan(values_I)])
    low, high = (np.searchsorted(known, values_I, side=side) for side in ("left", "right"))
    return np.where(np.isnan(values_I), 0.5, (low + high) / 2 / max(len(known), 1))


def reduce(vectors_ID: npt.NDArray[np.float32]) -> Floats:
    """(I, E) the ITEM_DIMS widest directions (PCA) of unit vectors, scaled so that a row's mean square length is 1."""
    if not vectors_ID.size:
        return np.zeros((len(vectors_ID), 0))
    unit = vectors_ID / np.maximum(np.linalg.norm(vectors_ID, axis=1, keepdims=True), 1e-9)
    centred = (unit - unit.mean(axis=0)).astype(np.float64)
    _, directions = np.linalg.eigh(centred.T @ centred)
    wide = directions[:, ::-1][:, :ITEM_DIMS]
    wide = wide * np.sign(wide[np.abs(wide).argmax(axis=0), np.arange(wide.shape[1])])  # the same sign everywhere
    reduced = centred @ wide
    return np.asarray(reduced / max(float(np.sqrt(np.square(reduced).sum(axis=1).mean())), 1e-9))
