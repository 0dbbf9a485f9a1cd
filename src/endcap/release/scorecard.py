"""What the gates found, as values: one `Gate` a question, one `Scorecard` a candidate.

Not here: asking (gates.py), drawing (page.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from endcap.contracts import CheckResult
    from endcap.evaluation.significance import Interval


@dataclass(frozen=True, slots=True)
class Comparison:
    """Candidate less reference over the same shoppers. `allowed` is the difference (<= 0) that may not be undercut."""

    reference: str
    metric: str
    ours: float
    theirs: float
    difference: Interval
    allowed: float


@dataclass(frozen=True, slots=True)
class Gate:
    """One question to a candidate and its answer; `why` says in a sentence what it protects."""

    group: str
    result: CheckResult
    why: str
    comparison: Comparison | None = None


@dataclass(frozen=True, slots=True)
class Scorecard:
    """Every gate of one candidate, and the figures behind them. It passed when every blocking gate did."""

    gates: list[Gate]
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)  # model → metric → mean over the holdout's shoppers
    details: dict[str, Any] = field(default_factory=dict)  # holdout_start, holdout_end, shoppers, dataset card, seconds

    @property
    def results(self) -> list[CheckResult]:
        return [gate.result for gate in self.gates]

    @property
    def failed(self) -> list[str]:
        """Names of the blocking gates that the candidate did not pass."""
        return [result.name for result in self.results if result.blocking and not result.passed]

    @property
    def passed(self) -> bool:
        return bool(self.gates) and not self.failed

    def checks(self) -> dict[str, bool]:
        """Gate → passed, as the signed record holds it."""
        return {result.name: result.passed for result in self.results}


def summary_markdown(scorecard: Scorecard, model: str, report_url: str) -> str:
    """A short table for the approval form: the verdict, what failed or warns, and the figures that matter."""
    verdict = "✓ **All gates passed**" if scorecard.passed else f"✗ **{len(scorecard.failed)} gate(s) refused it**"
    lines = [f"{verdict} for **model {model}**. [Open the scorecard]({report_url})", ""]
    lines += ["| | gate | observed | expected |", "|---|---|---|---|"]
    bad = [gate for gate in scorecard.gates if not gate.result.passed]
    quality = [gate for gate in scorecard.gates if gate.group == "Quality" and gate.result.passed]
    for gate in bad + quality:
        mark = "✓" if gate.result.passed else ("✗" if gate.result.blocking else "!")
        lines.append(f"| {mark} | {_cell(gate.result.name)} | {_cell(gate.result.observed)} | {_cell(gate.result.expected)} |")
    rest = len(scorecard.gates) - len(bad) - len(quality)
    lines += ["", f"{rest} further gates passed." if rest else ""]
    return "\n".join(lines).rstrip() + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
