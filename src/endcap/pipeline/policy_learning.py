"""What `endcap learn-policy` calls: shown items whose time is over, with what they earned, into what policies know.

The file of a state is the one record of what is learnt: it appears whole, and says up to when. So nothing is learnt twice,
whenever the process is killed.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from endcap.config import load_params, load_settings
from endcap.errors import ConfigError, InputError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from endcap.data.policy_log import Due, PolicyLog
    from endcap.exploring import Policies
    from endcap.policy.state import State

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Learnt:
    """What became of one run. `unknown`: rows by a set of features that this version of Endcap does not know."""

    learnt: int = 0  # shown items
    rewarded: int = 0  # of them, that earned something
    waiting: int = 0  # whose time is not over
    unknown: dict[str, int] = field(default_factory=dict)
    state: str | None = None  # the file in force; None: there is none yet
    rows: int = 0  # shown items that it has learnt, of all runs
    refused: list[str] = field(default_factory=list)  # broken or foreign files that were passed over


def learn(anew: bool = False) -> dict[str, Any]:
    """Learn what is due by now, and write the next state if anything was. `anew`: from all that the event log holds.

    Raises:
        ConfigError: rewards are others than those of the state.
        ServiceUnavailable: the event log does not answer.
    """
    from endcap.data.policy_log import PolicyLog

    settings, params = load_settings(), load_params()
    event_log = PolicyLog(settings.event_log_url)
    try:
        event_log.create()
        return asdict(learn_due(event_log, settings.paths.policies, params.policies, datetime.now(UTC), anew))
    finally:
        event_log.close()


def learn_due(event_log: PolicyLog, folder: Path, params: Policies, now: datetime, anew: bool = False) -> Learnt:
    """As `learn`, at a given moment; other learners wait."""
    from endcap.data.locks import locked
    from endcap.data.policy_log import Due
    from endcap.policy.state import State, rewards_of
    from endcap.policy.state_files import newest, save

    rewards = rewards_of(params)
    with locked(folder / ".lock"):
        found = newest(folder)
        state = State(rewards) if anew or found.state is None else found.state
        if state.rewards != rewards:
            action = f"Set them back ({state.rewards}), or learn everything again: `endcap learn-policy --anew`."
            raise ConfigError(f"are not those of {found.name}", field="policies.rewards", value=rewards, action=action)
        span = timedelta(hours=max(one.hours for one in params.rewards.values()))
        due = Due(now, state.until, span, timedelta(hours=params.late_hours))
        days, waiting = event_log.due(due)
        told = Learnt(waiting=waiting, state=found.name, refused=list(found.refused))
        for day in days:
            state = _learn_day(event_log, state, params, due, day, told)
        if days:
            told.state = save(folder, replace(state, until=now), params.keep)
        told.rows = state.rows
    log.info("policies learnt", extra={"rows": told.learnt, "state": told.state})
    return told


def _learn_day(event_log: PolicyLog, state: State, params: Policies, due: Due, day: int, told: Learnt) -> State:
    """The due rows of one day. What was shown later is read too: an event that names no request counts for the last that showed
    the item, due or not."""
    import numpy as np

    from endcap.data.features import EPOCH
    from endcap.data.policy_log import DAY
    from endcap.policy.features import names_of

    start = EPOCH + day * DAY
    end = start + DAY + due.span
    shown = event_log.shown(start, end, due).to_pandas()
    acts = event_log.acts(start, end + timedelta(microseconds=1), list(params.rewards)).to_pandas()
    rewards_N = earned(shown, acts, params)
    theirs_N = shown["due"].to_numpy(bool) & (shown["time"] < start + DAY).to_numpy()
    for feature_set in sorted(set(shown["feature_set"][theirs_N])):
        rows = np.flatnonzero(theirs_N & (shown["feature_set"] == feature_set).to_numpy())
        try:
            width = len(names_of(feature_set))
        except InputError as error:
            log.warning("exposures not learnt from", extra={"reason": str(error), "rows": len(rows)})
            told.unknown[feature_set] = told.unknown.get(feature_set, 0) + len(rows)
            continue
        features_ND = np.frombuffer(b"".join(shown["features"].iloc[rows]), "<f4").reshape(len(rows), width)
        state = state.add(feature_set, features_ND.astype(np.float64), rewards_N[rows])
        told.learnt += len(rows)
        told.rewarded += int(np.count_nonzero(rewards_N[rows]))
    return state


def earned(shown: pd.DataFrame, acts: pd.DataFrame, params: Policies) -> npt.NDArray[np.float64]:
    """(N,) the rewards of shown items: for each kind that followed within its hours, once. Returns (pieces below 0) are none.

    The rule is that of training/outcomes.py, each kind by itself.
    """
    import numpy as np

    from endcap.contracts import EventType
    from endcap.training.outcomes import followed

    acts = acts[~(acts["quantity"].astype(float) <= 0)]
    rewards_N = np.zeros(len(shown))
    for kind, one in params.rewards.items():
        rewards_N += one.reward * followed(shown, acts, [EventType(kind)], timedelta(hours=one.hours))
    return rewards_N
