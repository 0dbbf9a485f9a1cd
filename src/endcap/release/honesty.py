"""Is the judgement itself honest: sound data, days that nobody has seen, and enough shoppers? One question, one gate."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from endcap.contracts import CheckResult
from endcap.release.scorecard import Gate


def enough_shoppers(shoppers: int, minimum: int, start: datetime, end: datetime) -> Gate:
    """Without enough shoppers in the holdout nothing is proved."""
    days = (end - start).total_seconds() / 86400
    result = CheckResult(
        "enough shoppers",
        passed=shoppers >= minimum,
        blocking=True,
        observed=f"{shoppers} bought in the holdout of {days:.3g} days ({start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M})",
        expected=f"at least {minimum} (gates.slice_min_users)",
    )
    return Gate("Data", result, "A few shoppers prove nothing: ingest more, or hold out more days (prepare.holdout_days).")


def dataset_validated(card: dict[str, Any], expected_version: str, name: str = "dataset validated") -> Gate:
    """The dataset version passed its blocking expectations, and is the one that is expected."""
    passed = card.get("validation", {}).get("passed") is True
    version = str(card.get("version"))
    observed = f"{version}: {'validated' if passed else 'no passed validation on its card'}"
    result = CheckResult(
        name,
        passed=passed and version == expected_version,
        blocking=True,
        observed=observed,
        expected=f"{expected_version}: validated",
    )
    return Gate("Data", result, "A model is only as sound as the data it learnt from and is judged on.")


def holdout_unseen(config: dict[str, Any], start: datetime) -> Gate:
    """The candidate learnt nothing from the days it is judged on."""
    until = trained_until(config)
    result = CheckResult(
        "holdout unseen in training",
        passed=until is not None and until <= start,
        blocking=True,
        observed=f"trained until {until:%Y-%m-%d %H:%M}" if until else "the model does not say until when it was trained",
        expected=f"not beyond {start:%Y-%m-%d %H:%M}, where the holdout starts",
    )
    return Gate("Data", result, "A model that has seen the answers proves nothing.")


def champion_unseen(config: dict[str, Any], start: datetime, end: datetime) -> Gate:
    """The champion, too, is compared on days it has not learnt: on those behind what it knows, when it knows some of them."""
    until = trained_until(config)
    if until is None:
        observed = "the champion does not say until when it was trained"
    elif until <= start:
        observed = f"the champion was trained until {until:%Y-%m-%d %H:%M}"
    else:
        observed = f"the champion has seen the holdout until {until:%Y-%m-%d %H:%M}; " + (
            "only what came later is compared" if until < end else "nothing is left to compare on"
        )
    result = CheckResult(
        "holdout unseen by the champion",
        passed=until is not None and until < end,
        blocking=True,
        observed=observed,
        expected=f"unseen days between {start:%Y-%m-%d %H:%M} and {end:%Y-%m-%d %H:%M}",
    )
    why = "Nobody could win against a champion that knows the answers: ingest newer events, then judge again."
    return Gate("Data", result, why)


def trained_until(config: dict[str, Any]) -> datetime | None:
    """The newest moment that a model has learnt from; None where its config does not say."""
    text = str(config.get("trained_until", ""))
    until = datetime.fromisoformat(text) if text else None
    return until.replace(tzinfo=UTC) if until is not None and until.tzinfo is None else until
