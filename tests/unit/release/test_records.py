"""A record speaks of one model version, digest and dataset; nothing else makes a champion."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from endcap.contracts import ModelVersion
from endcap.errors import RecordInvalid
from endcap.release.records import GATE, PROMOTION, gate_record, promotion_record, to_tag, verified_gate, verified_promotion
from endcap.release.signing import Keys


def judged(version: ModelVersion, keys: Keys, passed: bool = True) -> ModelVersion:
    record = keys.sign(gate_record(version, passed=passed, champion="2", checks={"coverage": passed}))
    return replace(version, tags={**version.tags, GATE: to_tag(record)})


def promoted(version: ModelVersion, keys: Keys, by: str = "ann") -> ModelVersion:
    version = judged(version, keys)
    record = keys.sign(promotion_record(version, verified_gate(version, keys), by))
    return replace(version, tags={**version.tags, PROMOTION: to_tag(record)})


def test_a_passed_record_of_this_model_verifies(version: ModelVersion, keys: Keys) -> None:
    assert verified_gate(judged(version, keys), keys)["champion_version"] == "2"
    assert verified_promotion(promoted(version, keys), keys)["approved_by"] == "ann"


def test_refused_gates_are_named(version: ModelVersion, keys: Keys) -> None:
    with pytest.raises(RecordInvalid, match="coverage"):
        verified_gate(judged(version, keys, passed=False), keys)


@pytest.mark.parametrize(
    "other",
    [
        {"version": "4"},
        {"digest": "d2" * 32},
        {"dataset_version": "dataset-3"},
        {"params_hash": "other"},
        {"code_commit": "other"},
    ],
)
def test_a_record_cannot_be_carried_to_another_model(version: ModelVersion, keys: Keys, other: dict[str, Any]) -> None:
    with pytest.raises(RecordInvalid, match="bound to another"):
        verified_gate(replace(judged(version, keys), **other), keys)
    with pytest.raises(RecordInvalid, match="bound to another"):
        verified_promotion(replace(promoted(version, keys), **other), keys)


@pytest.mark.parametrize("tag", [GATE, PROMOTION])
@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"record": "gate", "passed": true}'])
def test_a_tag_that_is_gone_or_was_forged_unseats_the_champion(version: ModelVersion, keys: Keys, tag: str, text: str) -> None:
    champion = promoted(version, keys)

    with pytest.raises(RecordInvalid):
        verified_promotion(replace(champion, tags={**champion.tags, tag: text}), keys)


def test_an_alias_without_approval_is_worth_nothing(version: ModelVersion, keys: Keys) -> None:
    with pytest.raises(RecordInvalid, match="promotion record of model 3: there is none"):
        verified_promotion(judged(version, keys), keys)


def test_an_approval_needs_a_person(version: ModelVersion, keys: Keys) -> None:
    with pytest.raises(RecordInvalid, match="names nobody"):
        verified_promotion(promoted(version, keys, by=""), keys)


def test_an_approval_of_refused_gates_is_worth_nothing(version: ModelVersion, keys: Keys) -> None:
    failed = keys.sign(gate_record(version, passed=False, champion=None, checks={"coverage": False}))
    record = keys.sign(promotion_record(version, failed, "ann"))
    champion = judged(version, keys)

    with pytest.raises(RecordInvalid, match="not passed"):
        verified_promotion(replace(champion, tags={**champion.tags, PROMOTION: to_tag(record)}), keys)


def test_a_gate_record_is_no_promotion_record(version: ModelVersion, keys: Keys) -> None:
    champion = judged(version, keys)

    with pytest.raises(RecordInvalid, match="another record"):
        verified_promotion(replace(champion, tags={**champion.tags, PROMOTION: champion.tags[GATE]}), keys)


def test_judging_a_champion_again_does_not_undo_its_approval(version: ModelVersion, keys: Keys) -> None:
    champion = promoted(version, keys)

    assert verified_promotion(judged(champion, keys, passed=False), keys)["approved_by"] == "ann"
