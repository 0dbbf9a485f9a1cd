"""How checks become a decision."""

from __future__ import annotations

import dataclasses
import json

from endcap.monitoring.checks import Check, Decision, Kind, decide

QUIET = Check("price", Kind.COLUMN, 0.02, 0.1, False, 0.01, "psi", (0.01, 0.01))


def _columns(moved: int, of: int = 8, value: float = 0.2) -> list[Check]:
    return [dataclasses.replace(QUIET, name=f"c{n}", value=value if n < moved else 0.02, drifted=n < moved) for n in range(of)]


def _decide(checks: list[Check]) -> Decision:
    return decide(checks, drift_share=0.25, strong_psi=0.5)


def test_one_column_that_moves_a_little_is_no_drift() -> None:
    decision = _decide(_columns(1))
    assert not decision.drifted
    assert decision.share == 1 / 8


def test_many_columns_are_drift_with_one_reason() -> None:
    decision = _decide(_columns(2))
    assert decision.drifted
    assert decision.reasons == ("2 of 8 columns moved (c0, c1): 0.25, limit 0.25",)


def test_one_column_that_moves_far_is_drift() -> None:
    assert _decide(_columns(1, value=0.7)).reasons == ("c0 moved: psi 0.700, limit 0.100 (usual: 0.010)",)


def test_texts_scores_and_online_quality_each_decide_alone() -> None:
    for kind in (Kind.TEXT, Kind.SCORES, Kind.ONLINE):
        other = dataclasses.replace(QUIET, name="it", kind=kind, drifted=True)
        assert _decide([*_columns(0), other]).drifted
        assert not _decide([*_columns(0), dataclasses.replace(other, drifted=False)]).drifted


def test_a_check_is_plain_json() -> None:
    assert json.loads(json.dumps(QUIET.to_json()))["kind"] == "column"
