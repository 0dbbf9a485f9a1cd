"""What learning policies know, all of it in one value: sums by set of features, the rewards they are of, and up to when.

A row counts once its *due* moment is over: when no event can add to its reward any more. Not here: files (state_files.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np

from endcap.errors import InputError
from endcap.exploring import Policies
from endcap.policy.features import FEATURE_SET, NAMES, names_of
from endcap.policy.linear import Floats, Statistics

FORMAT = "endcap-policy-state-1"
MODELS = 3  # newest sets of features with item vectors; of older ones only what every model has is kept


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """`until`: rows that were due before it are learnt, and no others; None: none are."""

    rewards: str
    until: datetime | None = None
    sets: Mapping[str, Statistics] = field(default_factory=dict)  # by feature set, the one that last grew at the end

    @property
    def rows(self) -> int:
        """Shown items that are learnt."""
        return round(sum(one.rows for one in self.sets.values()))

    def about(self, names: tuple[str, ...]) -> Statistics:
        """What all sets that have these features say of them."""
        found = Statistics.empty(names)
        for one in self.sets.values():
            if set(names) <= set(one.names):
                found = found.plus(one.only(names))
        return found

    def add(self, feature_set: str, features_ND: Floats, rewards_N: Floats) -> State:
        """More rows. Of models long gone only what every model has is kept."""
        sets = dict(self.sets)
        before = sets.pop(feature_set, None) or Statistics.empty(names_of(feature_set))
        sets[feature_set] = before.add(features_ND, rewards_N)
        while len(bound := [name for name in sets if name != FEATURE_SET]) > MODELS:
            plain = sets.pop(FEATURE_SET, Statistics.empty(NAMES))
            sets = {FEATURE_SET: plain.plus(sets.pop(bound[0]).only(NAMES)), **sets}
        return replace(self, sets=sets)

    def to_text(self) -> str:
        """JSON; numbers come back as they were."""
        sets = {
            name: {"names": one.names, "xx": one.xx.tolist(), "xr": one.xr.tolist(), "rr": one.rr, "rows": one.rows}
            for name, one in self.sets.items()
        }
        until = self.until.isoformat() if self.until else None
        return json.dumps({"format": FORMAT, "rewards": self.rewards, "until": until, "sets": sets})


def rewards_of(policies: Policies) -> str:
    """What a reward means, as text: sums of unlike rewards must not be mixed.

    >>> rewards_of(Policies())
    'cart 2 within 24 h, click 1 within 24 h, purchase 5 within 24 h; late 1 h'
    """
    told = (f"{kind} {one.reward:g} within {one.hours:g} h" for kind, one in sorted(policies.rewards.items()))
    return f"{', '.join(told)}; late {policies.late_hours:g} h"


def read_state(text: str) -> State:
    """What `State.to_text` wrote.

    Raises:
        InputError: it is nothing of the kind, or of other features than this version of Endcap knows.
    """
    try:
        raw = json.loads(text)
        if raw["format"] != FORMAT:
            raise _refused("format", raw["format"])
        until = datetime.fromisoformat(raw["until"]) if raw["until"] else None
        if until is not None and until.tzinfo is None:
            raise _refused("until", raw["until"])
        sets = {str(name): _statistics(str(name), one) for name, one in raw["sets"].items()}
        return State(str(raw["rewards"]), until, sets)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _refused("state", text[:80]) from error


def _statistics(feature_set: str, raw: Mapping[str, Any]) -> Statistics:
    names = names_of(feature_set)
    if tuple(raw["names"]) != names:
        raise _refused(f"sets.{feature_set}.names", raw["names"])
    found = Statistics(names, np.array(raw["xx"], float), np.array(raw["xr"], float), float(raw["rr"]), float(raw["rows"]))
    count = len(names)
    whole = found.xx.shape == (count, count) and found.xr.shape == (count,)
    if not whole or not np.isfinite([found.xx.sum(), found.xr.sum(), found.rr, found.rows]).all():
        raise _refused(f"sets.{feature_set}", "sums that are not numbers, or not as many as features")
    spread = np.linalg.eigvalsh(found.xx)
    if not np.allclose(found.xx, found.xx.T) or spread[0] < -1e-6 * max(spread[-1], 1) or found.rows < 0 or found.rr < 0:
        raise _refused(f"sets.{feature_set}", "sums that no rows have")
    return found


def _refused(where: str, value: object) -> InputError:
    action = "Delete the file: the last good one is used, and `endcap learn-policy` learns again what it lacks."
    return InputError("is no state of policies that this version of Endcap can use", field=where, value=value, action=action)
