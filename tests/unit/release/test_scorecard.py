"""What a person sees of an outcome: the short table in the approval form, and the page."""

from __future__ import annotations

from endcap.contracts import CheckResult
from endcap.evaluation.significance import Interval
from endcap.release.page import Fact, draw, render
from endcap.release.scorecard import Comparison, Gate, Scorecard, summary_markdown

DETAILS = {"k": 10, "shoppers": 40, "holdout_start": "2011-11-07T00:00:00", "holdout_end": "2011-11-14T00:00:00"}
METRICS = {"candidate": {"ndcg_at_10": 0.3, "ndcg_at_10_new": 0.1, "recall_at_10": 0.2, "recall_at_10_new": 0.1}}


def gate(name: str, passed: bool, blocking: bool = True, group: str = "Quality") -> Gate:
    comparison = Comparison("champion", "ndcg_at_10", 0.3, 0.29, Interval(0.01, -0.005, 0.02, 40), allowed=-0.01)
    return Gate(group, CheckResult(name, passed, blocking, "seen | this", "wanted <that>"), "because", comparison)


def card(*gates: Gate) -> Scorecard:
    return Scorecard(list(gates), METRICS, DETAILS)


def test_a_warning_does_not_refuse_and_a_blocking_gate_does() -> None:
    assert card(gate("a", True), gate("b", False, blocking=False)).passed
    assert card(gate("a", True), gate("b", False)).failed == ["b"]
    assert not card().passed


def test_the_summary_says_the_verdict_and_escapes_cells() -> None:
    text = summary_markdown(card(gate("NDCG", False), gate("size", True, group="Budgets")), "3", "http://host/report")

    assert text.startswith("✗ **1 gate(s) refused it** for **model 3**. [Open the scorecard](http://host/report)")
    assert "| ✗ | NDCG | seen \\| this | wanted <that> |" in text
    assert "1 further gates passed." in text


def page(*gates: Gate) -> str:
    return render(card(*gates), "Model 3", "A full training", [Fact("dataset", "dataset-1", "http://data")], [])


def test_the_page_opens_with_the_verdict() -> None:
    assert "Model 3 passed every gate" in page(gate("NDCG", True))
    refused = page(gate("NDCG", False))
    assert "Model 3 was refused" in refused
    assert "Not passed: NDCG." in refused


def test_the_page_is_self_contained_and_escaped() -> None:
    text = page(gate("<script>alert(1)</script>", True))

    assert "<script" not in text
    assert "wanted &lt;that&gt;" in text
    assert "src=" not in text
    assert '<a href="http://data">dataset-1</a>' in text


def test_an_interval_is_drawn_to_scale() -> None:
    drawing = draw(gate("x", True).comparison, reach=0.02)  # type: ignore[arg-type]

    assert drawing.allowed < drawing.low < drawing.zero < drawing.mean < drawing.high
    assert round(drawing.zero - drawing.allowed, 1) == round(drawing.mean - drawing.zero, 1)


def test_a_page_can_be_drawn_without_any_figure() -> None:
    lone = Gate("Servability", CheckResult("the model loads", False, True, "torn", "it loads"), "why")

    assert "was refused" in render(Scorecard([lone], {}, DETAILS), "Model 3", "", [], [])


def test_the_page_tells_of_the_behaviour_head_or_why_there_is_none() -> None:
    def told(head: dict[str, object]) -> str:
        return render(Scorecard([gate("NDCG", True)], METRICS, {**DETAILS, "behaviour_head": head}), "Model 3", "", [], [])

    one = {"happened": 0.12, "log_loss": 0.3, "prior_log_loss": 0.4, "ece": 0.0123, "prior_ece": 0.05, "chance_ece": 0.0077}
    rate = {**one, "by": "rate", "reason": "3 and 1 rows of the rarer purchase outcome"}
    click = {**one, "by": "head", "reason": ""}
    head = {"rows": {"judge": 12345}, "last": "2011-11-06T10:00:00", "click": click, "purchase": rate}
    text = told(head)
    for words in ("12,345 shown items", "up to 2011-11-06", "0.0123", "0.0077", "12.00 %", "one rate for all: 3 and 1 rows"):
        assert words in text
    assert "The parent&#39;s head" not in text
    assert "since the new days gave none: too few &lt;shown&gt;" in told({**head, "kept": "too few <shown>"})
    assert "no probabilities of click and purchase: nothing was shown" in told({"absent": "nothing was shown"})
    assert "How sure is it?" not in page(gate("NDCG", True))
