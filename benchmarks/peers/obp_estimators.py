"""Endcap's off-policy estimators and those of obp, given the same arrays: run in the peers' environment by `off_policy`.

    .venv-peers/bin/python -m benchmarks.peers.obp_estimators FOLDER OUT.json

FOLDER holds bts.csv.gz, random.csv.gz and item_context.csv of a campaign of the Open Bandit data set.
Shapes: N rows, A items, K places, S slates.
"""

from __future__ import annotations

import importlib.metadata
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from obp import ope

from benchmarks.peers.exchange import write_json
from endcap.evaluation.off_policy import choices, slates
from endcap.evaluation.off_policy.estimate import Estimate
from endcap.evaluation.off_policy.intervals import Bounds, bernstein, bootstrap
from endcap.evaluation.off_policy.reward_model import cross_fit
from endcap.evaluation.off_policy.tuning import least_error, thresholds
from endcap.evaluation.off_policy.weights import importance_weights, marginal_weights

Floats = npt.NDArray[np.float64]
PLACES = 3
CONFIDENCE, SAMPLES = 0.9, 2000


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A log, the policy to judge, and what a model expects: all that either side is given."""

    items: npt.NDArray[np.int64]  # (N,)
    places: npt.NDArray[np.int64]  # (N,) from 0
    rewards: Floats  # (N,)
    propensities: Floats  # (N,)
    played: Floats  # (K, A)
    logged: Floats  # (K, A) what MIPS takes for the chances of all items
    expected: Floats  # (N, A)
    groups: npt.NDArray[np.int64]  # (A,)

    @property
    def policy(self) -> Floats:
        """(N, A)"""
        return self.played[self.places]

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        return np.arange(len(self.items))

    @property
    def slates(self) -> npt.NDArray[np.int64]:
        """(S, K) rows. The files hold places, not slates: the n-th row of each place is taken for the n-th slate."""
        of_place = [np.flatnonzero(self.places == place) for place in range(PLACES)]
        return np.stack([rows[: min(map(len, of_place))] for rows in of_place], axis=1)


def read_case(folder: Path, logged: str, judged: str) -> Case:
    """The rows of one policy's file; the other policy is how often it showed each item at each place."""
    log, other = (pd.read_csv(folder / f"{name}.csv.gz", index_col=0) for name in (logged, judged))
    about = pd.read_csv(folder / "item_context.csv", index_col=0).sort_values("item_id")
    count, (items, places) = len(about), (log["item_id"].to_numpy(), log["position"].to_numpy() - 1)
    rewards, rows = log["click"].to_numpy(np.float64), np.arange(len(log))
    fitted = cross_fit(rewards, items, places, rows, count)
    expected_NA = np.stack([fitted.of_shown(np.full(len(log), item)) for item in range(count)], axis=1)
    groups_A = pd.factorize(about["item_feature_1"])[0]
    policy_KA, shown_KA = _shares(other, count), _shares(log, count)
    logging_KA = 0.9 * shown_KA + 0.1 / count  # not quite what was shown, so that self-normalising has something to do
    return Case(items, places, rewards, log["propensity_score"].to_numpy(), policy_KA, logging_KA, expected_NA, groups_A)


def _shares(frame: pd.DataFrame, count: int) -> Floats:
    """(K, A) how often each item was shown at each place."""
    shown = np.zeros((PLACES, count))
    np.add.at(shown, (frame["position"].to_numpy() - 1, frame["item_id"].to_numpy()), 1)
    return np.asarray(shown / shown.sum(axis=1, keepdims=True))


def compare_choices(case: Case) -> dict[str, tuple[float, float]]:
    """name → (Endcap, obp) of the estimators of single choices, tuned ones and a bound."""
    weights = importance_weights(case.policy[case.rows, case.items], case.propensities)
    shown = case.expected[case.rows, case.items]
    played = (case.policy * case.expected).sum(axis=1)
    logging_NA = case.logged[case.places]
    marginal = marginal_weights(case.policy, logging_NA, case.groups, case.items)
    rewards, both = case.rewards, (case.rewards, weights, shown, played)
    given = {
        "reward": rewards,
        "action": case.items,
        "position": case.places,
        "pscore": case.propensities,
        "action_dist": np.repeat(case.policy[:, :, None], PLACES, axis=2),
        "estimated_rewards_by_reg_model": np.repeat(case.expected[:, :, None], PLACES, axis=2),
    }
    flags = np.equal.outer(case.groups, np.arange(case.groups.max() + 1)).astype(np.float64)
    embedded = given | {
        "action_embed": case.groups[case.items][:, None],
        "pi_b": np.repeat(logging_NA[:, :, None], PLACES, axis=2),
        "p_e_a": flags[:, :, None],
    }
    limit, grid = float(np.quantile(weights, 0.9)), list(thresholds(weights))
    found = {
        "ipw": (choices.ipw(rewards, weights), ope.InverseProbabilityWeighting()),
        "clipped ipw": (choices.ipw(rewards, weights, limit), ope.InverseProbabilityWeighting(lambda_=limit)),
        "snipw": (choices.snipw(rewards, weights), ope.SelfNormalizedInverseProbabilityWeighting()),
        "dm": (choices.dm(played), ope.DirectMethod()),
        "dr": (choices.dr(*both), ope.DoublyRobust()),
        "sndr": (choices.sndr(*both), ope.SelfNormalizedDoublyRobust()),
        "switch-dr": (choices.switch_dr(*both, limit), ope.SwitchDoublyRobust(lambda_=limit)),
        "dr-os": (choices.dr_os(*both, limit), ope.DoublyRobustWithShrinkage(lambda_=limit)),
        "switch-dr, tuned": (
            (tuned := [choices.switch_dr(*both, one) for one in grid])[_chosen(tuned)],
            ope.SwitchDoublyRobustTuning(lambdas=list(grid), tuning_method="mse", use_bias_upper_bound=False),
        ),
        "dr-os, tuned": (
            (tuned := [choices.dr_os(*both, one) for one in grid])[_chosen(tuned)],
            ope.DoublyRobustWithShrinkageTuning(lambdas=list(grid), tuning_method="mse", use_bias_upper_bound=False),
        ),
    }
    values = {name: (ours.value, float(peer.estimate_policy_value(**given))) for name, (ours, peer) in found.items()}
    kinds = {
        "mips": (choices.ipw, ope.MarginalizedInverseProbabilityWeighting),
        "snmips": (choices.snipw, ope.SelfNormalizedMarginalizedInverseProbabilityWeighting),
    }
    for name, (ours, peer) in kinds.items():
        theirs = peer(n_actions=len(case.groups)).estimate_policy_value(**embedded)
        values[name] = (ours(rewards, marginal).value, float(theirs))
    terms = weights * rewards
    low = ope.helper.estimate_bernstein_lower_bound(terms, x_max=float(weights.max()), delta=(1 - CONFIDENCE) / 2)
    ours = bernstein(choices.ipw(rewards, weights), Bounds(0.0, float(weights.max())), confidence=CONFIDENCE)
    return values | {"ipw, Bernstein's lower bound": (ours.low, float(low))}


def _chosen(candidates: list[Estimate]) -> int:
    return least_error([one.tops.sum(axis=1) for one in candidates])


def compare_slates(case: Case) -> dict[str, tuple[float, float]]:
    """name → (Endcap, obp) of the estimators of slates."""
    rows_SK, count = case.slates, len(case.groups)
    policy, logged = case.policy[case.rows, case.items][rows_SK], case.propensities[rows_SK]
    weights_SK, rewards_SK = importance_weights(policy.ravel(), logged.ravel()).reshape(rows_SK.shape), case.rewards[rows_SK]
    cascade_SK = slates.cascade_weights(weights_SK)
    shown_SK = case.expected[case.rows, case.items][rows_SK]
    played_SK = (case.policy * case.expected).sum(axis=1)[rows_SK]
    given = {
        "slate_id": np.repeat(np.arange(len(rows_SK)), PLACES),
        "reward": rewards_SK.ravel(),
        "action": case.items[rows_SK].ravel(),
        "position": np.tile(np.arange(PLACES), len(rows_SK)),
    }
    whole, theirs = (np.repeat(chances.prod(axis=1), PLACES) for chances in (logged, policy))
    pairs = {
        "pscore": whole,
        "evaluation_policy_pscore": theirs,
        "pscore_item_position": logged.ravel(),
        "evaluation_policy_pscore_item_position": policy.ravel(),
        "pscore_cascade": np.cumprod(logged, axis=1).ravel(),
        "evaluation_policy_pscore_cascade": np.cumprod(policy, axis=1).ravel(),
        "q_hat": case.expected[rows_SK].ravel(),
        "evaluation_policy_action_dist": case.policy[rows_SK].ravel(),
    }
    found = {
        "sips": (slates.sips(rewards_SK, cascade_SK), ope.SlateStandardIPS(PLACES)),
        "iips": (slates.iips(rewards_SK, weights_SK), ope.SlateIndependentIPS(PLACES)),
        "rips": (slates.rips(rewards_SK, cascade_SK), ope.SlateRewardInteractionIPS(PLACES)),
        "snsips": (slates.snsips(rewards_SK, cascade_SK), ope.SelfNormalizedSlateStandardIPS(PLACES)),
        "sniips": (slates.sniips(rewards_SK, weights_SK), ope.SelfNormalizedSlateIndependentIPS(PLACES)),
        "snrips": (slates.snrips(rewards_SK, cascade_SK), ope.SelfNormalizedSlateRewardInteractionIPS(PLACES)),
        "cascade-dr": (
            slates.cascade_dr(rewards_SK, cascade_SK, shown_SK, played_SK),
            ope.SlateCascadeDoublyRobust(PLACES, count),
        ),
    }
    return {name: (ours.value, float(peer.estimate_policy_value(**given, **pairs))) for name, (ours, peer) in found.items()}


def compare_intervals(case: Case) -> dict[str, dict[str, list[float]]]:
    """Bootstrap intervals of both; other draws, so alike at best. obp keeps the divisor of SNIPW as it is in every draw."""
    weights = importance_weights(case.policy[case.rows, case.items], case.propensities)
    pairs = {
        "ipw": (choices.ipw(case.rewards, weights), ope.InverseProbabilityWeighting()),
        "snipw": (choices.snipw(case.rewards, weights), ope.SelfNormalizedInverseProbabilityWeighting()),
    }
    ours = bootstrap({name: one for name, (one, _) in pairs.items()}, samples=SAMPLES, confidence=CONFIDENCE)
    found = {}
    for name, (_, peer) in pairs.items():
        theirs = peer.estimate_interval(
            reward=case.rewards,
            action=case.items,
            pscore=case.propensities,
            position=case.places,
            action_dist=np.repeat(case.policy[:, :, None], PLACES, axis=2),
            alpha=1 - CONFIDENCE,
            n_bootstrap_samples=SAMPLES,
            random_state=1,
        )
        low, high = (value for key, value in theirs.items() if "CI" in key)
        found[name] = {"endcap": [ours[name].low, ours[name].high], "obp": [float(low), float(high)]}
    return found


def compare(folder: Path) -> dict[str, Any]:
    """Both directions."""
    directions = {}
    for logged, judged in (("bts", "random"), ("random", "bts")):
        case = read_case(folder, logged, judged)
        values = compare_choices(case) | compare_slates(case)
        directions[f"{logged} → {judged}"] = {
            "rows": len(case.items),
            "slates": len(case.slates),
            "clicks": int(case.rewards.sum()),
            "estimates": {
                name: {"endcap": ours, "obp": theirs, "difference": abs(ours - theirs)}
                for name, (ours, theirs) in values.items()
            },
            "bootstrap": compare_intervals(case),
        }
    packages = ("obp", "numpy", "scipy", "pandas", "scikit-learn")
    return {"directions": directions, "versions": {name: importlib.metadata.version(name) for name in packages}}


if __name__ == "__main__":
    write_json(Path(sys.argv[2]), compare(Path(sys.argv[1])))
