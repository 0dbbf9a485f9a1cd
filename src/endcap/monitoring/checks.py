"""One thing that is watched, and how a set of them becomes a decision. Plain records: no pandas, no Evidently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What a check watches."""

    COLUMN = "column"
    TEXT = "text"
    SCORES = "scores"
    ONLINE = "online"


@dataclass(frozen=True, slots=True)
class Check:
    """A distance (or, for online quality, a rate) against the most that is allowed (or the least that is required)."""

    name: str
    kind: Kind
    value: float
    threshold: float
    drifted: bool
    usual: float | None  # what the reference's own intervals show; None: there are none
    unit: str  # psi | mmd | rate
    history: tuple[float, ...] = field(default=())  # the same measure for each block of the reference, oldest first

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"kind": str(self.kind), "history": list(self.history), "verdict": self.verdict}

    @property
    def verdict(self) -> str:
        """One or two words for a person."""
        if self.drifted:
            return "fell" if self.kind is Kind.ONLINE else "moved"
        return "first time" if self.usual is None else "as usual"

    def says(self) -> str:
        """One clause for a person."""
        if self.usual is None:
            return f"{self.name}, {self.verdict}: {self.unit} {self.value:.3f}"
        if self.kind is Kind.ONLINE:
            found = f"{self.value:.3f} of requests, limit {self.threshold:.3f} (before: {self.usual:.3f})"
        else:
            found = f"{self.unit} {self.value:.3f}, limit {self.threshold:.3f} (usual: {self.usual:.3f})"
        return f"{self.name} {self.verdict}: {found}"


@dataclass(frozen=True, slots=True)
class Decision:
    """What the checks say together. `share` is the part of the columns that drifted, 0 to 1."""

    drifted: bool
    share: float
    reasons: tuple[str, ...]


def decide(checks: Sequence[Check], *, drift_share: float, strong_psi: float) -> Decision:
    """Drift means: many columns moved, or one moved far, or the texts, the scores or the online quality did.

    One column that moves a little is a holiday or a big order, and no reason to train.
    """
    columns = [check for check in checks if check.kind is Kind.COLUMN]
    moved = [check for check in columns if check.drifted]
    share = len(moved) / len(columns) if columns else 0.0
    reasons = [check.says() for check in checks if check.drifted and check.kind is not Kind.COLUMN]
    if moved and share >= drift_share:
        names = ", ".join(check.name for check in moved)
        reasons.append(f"{len(moved)} of {len(columns)} columns moved ({names}): {share:.2f}, limit {drift_share:.2f}")
    else:
        reasons += [check.says() for check in moved if check.value >= strong_psi]
    return Decision(bool(reasons), share, tuple(reasons))
