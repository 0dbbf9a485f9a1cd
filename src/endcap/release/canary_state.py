"""Where a canary stands, as it is signed and kept on the candidate's version in the registry: values, no deeds.

Its settings are those at its start: a change of params.yaml holds for the next canary. Steps are counted from 0; SHADOW (-1)
is the time before them.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from endcap.sections import Canary

if TYPE_CHECKING:
    from endcap.release.canary import Reading

SHADOW = -1
Status = Literal["running", "passed", "rolled_back", "promoted"]  # passed: the candidate answers everybody, a person is asked
OPEN: tuple[Status, ...] = ("running", "passed")


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class GuardSeen(Frozen):
    """One guard at one look: estimate and interval as differences to the champion (None: unknown), and the bar."""

    metric: str
    estimate: float | None
    low: float | None
    high: float | None
    bar: float
    relative: bool
    verdict: Literal["beyond", "within", "unsure"]

    @classmethod
    def of(cls, reading: Reading) -> GuardSeen:
        verdict = "beyond" if reading.broken else "within" if reading.passed else "unsure"
        low, high = reading.likely if reading.passed else reading.sure
        return cls(
            metric=reading.metric,
            estimate=_finite(reading.estimate),
            low=_finite(low),
            high=_finite(high),
            bar=reading.bar,
            relative=reading.relative,
            verdict=verdict,
        )


class ArmSeen(Frozen):
    """What one arm's requests of a step came to. Clicks and purchases are of the settled ones, whose time to act is over."""

    requests: int = 0
    shoppers: int = 0
    settled: int = 0
    clicks: int = 0
    purchases: int = 0
    latency_ms: float | None = None
    errors: int = 0
    fallbacks: int = 0


class ShadowSeen(Frozen):
    """What the shadow was like: means over compared requests; None where nothing could be compared."""

    compared: int = 0
    errors: int = 0
    overlap: float | None = None
    rank_correlation: float | None = None
    candidate_ms: float | None = None
    champion_ms: float | None = None


class Look(Frozen):
    """One look at the evidence, and what followed."""

    at: datetime
    step: int
    action: Literal["advance", "wait", "roll_back"]
    share: float
    reasons: tuple[str, ...]
    overdue: bool = False
    guards: tuple[GuardSeen, ...] = ()
    candidate: ArmSeen = ArmSeen()
    champion: ArmSeen = ArmSeen()
    shadow: ShadowSeen | None = None


class Entry(Frozen):
    """Something that changed the canary, by whom, and the look that it rests on."""

    at: datetime
    what: Literal["started", "advanced", "passed", "rolled_back", "promoted"]
    step: int  # from here on
    share: float
    by: str
    reasons: tuple[str, ...] = ()
    look: Look | None = None


class CanaryState(Frozen):
    """A canary, running or over."""

    canary_id: str  # also the salt of its shares
    model_version: str
    champion_version: str  # what it is compared with
    approved_by: str
    settings: Canary
    shadow_only: bool = False  # stays in the shadow until somebody stops it
    status: Status = "running"
    step: int
    share: float
    started_at: datetime
    since: datetime  # of the present step
    look: Look | None = None  # the last one
    history: tuple[Entry, ...]

    @property
    def open(self) -> bool:
        """Whether the candidate may answer anybody."""
        return self.status in OPEN

    @property
    def shadow_share(self) -> float:
        """Of requests that are compared in the shadow now."""
        shadow = self.settings.shadow
        return shadow.share if shadow and self.status == "running" and self.step == SHADOW else 0.0

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it stands where it does: of the last change, or of a later look."""
        if self.open and self.look is not None:
            return self.look.reasons
        return self.history[-1].reasons

    def told(self) -> str:
        """In a few words: `model 7 answers 10 % of shoppers (step 2 of 3)`."""
        steps = len(self.settings.steps)
        if self.status == "running":
            if self.step == SHADOW:
                return f"model {self.model_version} runs in the shadow of model {self.champion_version}"
            return f"model {self.model_version} answers {self.share * 100:g} % of shoppers (step {self.step + 1} of {steps})"
        ends = {
            "passed": f"model {self.model_version} came through all steps, answers everybody, and waits for a person's word",
            "rolled_back": f"model {self.model_version} was rolled back",
            "promoted": f"model {self.model_version} was promoted",
        }
        return ends[self.status]


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
