"""Endcap's checks as Evidently metrics: one number each, with a test and a picture, in Evidently's report and dashboard.

Importing this module imports Evidently (four seconds), so it is only imported where a report is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import plotly.graph_objects as go
from evidently.core.metric_types import MetricTestResult, SingleValue, SingleValueCalculation, SingleValueMetric
from evidently.legacy.renderers.html_widgets import CounterData, WidgetSize, counter, plotly_figure, table_data
from evidently.legacy.tests.base_test import TestStatus

from endcap.monitoring.checks import Kind

if TYPE_CHECKING:
    from evidently.core.datasets import Dataset
    from evidently.core.report import Context

CHECKS, VERDICT, QUALITY, MOVERS = "checks", "verdict", "quality", "movers"  # the report's additional data, see report.py
SHARE = "share of columns that moved"
GREY, RED, BLUE = "#b9c0c8", "#ed0400", "#4d6fe0"


class Measurement(SingleValueMetric):  # type: ignore[misc]  # Evidently is untyped
    """One check by its name: its value, or the limit that it is held against (shown in the dashboard only)."""

    name: str
    of: Literal["value", "limit"] = "value"


class MeasurementCalculation(SingleValueCalculation[Measurement]):  # type: ignore[misc]
    """Looks the number up, draws it, and passes or fails as the check did."""

    def calculate(self, context: Context, current_data: Dataset, reference_data: Dataset | None) -> SingleValue:
        checks = context.additional_data[CHECKS].as_dataframe()
        row = checks[checks["name"] == self.metric.name].iloc[0]
        if self.metric.of == "limit":
            result = self.result(float(row["threshold"]))
            result.widget = []
            return result
        result = self.result(float(row["value"]))
        result.set_tests([drift_test(self, row["name"], row["says"], failed=bool(row["drifted"]))])
        result.widget = [_headline(row), _history(row)]
        if row["kind"] == Kind.COLUMN and reference_data is not None:
            name = str(row["name"])
            result.widget.append(_groups(reference_data.as_dataframe()[name], current_data.as_dataframe()[name]))
        if row["kind"] == Kind.TEXT:
            result.widget.append(_movers(context.additional_data[MOVERS].as_dataframe()))
        if row["kind"] == Kind.ONLINE:
            result.widget.append(_versions(context.additional_data[QUALITY].as_dataframe()))
        return result

    def display_name(self) -> str:
        return str(self.metric.name)


class Verdict(SingleValueMetric):  # type: ignore[misc]
    """The decision: the share of columns that moved, the reasons, and a table of everything that is watched."""


class VerdictCalculation(SingleValueCalculation[Verdict]):  # type: ignore[misc]
    """Reads the decision, which was made before."""

    def calculate(self, context: Context, current_data: Dataset, reference_data: Dataset | None) -> SingleValue:  # noqa: ARG002
        verdict = context.additional_data[VERDICT].as_dataframe().iloc[0]
        result = self.result(float(verdict["share"]))
        result.set_tests([drift_test(self, "Decision", verdict["reasons"], failed=bool(verdict["drifted"]))])
        counters = [
            CounterData(verdict["reasons"], "Drift" if verdict["drifted"] else "No drift"),
            CounterData(SHARE, f"{verdict['share']:.2f}"),
        ]
        checks = context.additional_data[CHECKS].as_dataframe()
        result.widget = [counter(counters=counters, title=verdict["title"]), _table(checks)]
        return result

    def display_name(self) -> str:
        return SHARE


def drift_test(calculation: Any, name: str, description: str, *, failed: bool) -> MetricTestResult:
    """A line of the report's page of tests."""
    status = TestStatus.FAIL if failed else TestStatus.SUCCESS
    config = calculation.to_metric_config()
    return MetricTestResult(id="drift", name=name, description=description, status=status, metric_config=config, test_config={})


def _table(checks: pd.DataFrame) -> Any:
    numbers = ["value", "usual", "threshold"]
    rows = [
        [row["name"], row["kind"], row["verdict"], *("–" if pd.isna(row[n]) else f"{row[n]:.3f}" for n in numbers), row["unit"]]
        for _, row in checks.iterrows()
    ]
    names = ["check", "kind", "verdict", "now", "usual", "limit", "unit"]
    return table_data(title="Everything that is watched", column_names=names, data=rows)


def _headline(row: pd.Series) -> Any:
    return counter(counters=[CounterData(row["says"], row["verdict"])], title=str(row["name"]).capitalize())


def _history(row: pd.Series) -> Any:
    """The same measure for each interval of the reference, then for the newest, and the limit as a line."""
    history: list[float] = list(row["history"])
    names = [f"{len(history) - place} before" for place in range(len(history))] + ["newest"]
    colours = [GREY] * len(history) + [RED if row["drifted"] else BLUE]
    figure: Any = go.Figure(go.Bar(x=names, y=[*history, float(row["value"])], marker_color=colours))
    figure.add_hline(y=float(row["threshold"]), line_dash="dash", annotation_text="limit", annotation_position="top left")
    figure.update_layout(yaxis_title=row["unit"])
    return plotly_figure(title="Each interval against the rest", figure=figure, size=WidgetSize.HALF)


def _groups(reference: pd.Series, current: pd.Series) -> Any:
    """Shares of the groups of one column, side by side."""
    shares = [column.value_counts(normalize=True) for column in (reference, current)]
    groups = sorted(shares[0].index.union(shares[1].index))
    bars = [
        go.Bar(x=groups, y=share.reindex(groups, fill_value=0.0), name=name, marker_color=colour)
        for share, name, colour in zip(shares, ["reference", "newest"], [GREY, BLUE], strict=True)
    ]
    figure: Any = go.Figure(bars)
    figure.update_layout(yaxis_title="share", yaxis_tickformat=".0%")
    return plotly_figure(title="Shares of purchases", figure=figure, size=WidgetSize.HALF)


def _movers(movers: pd.DataFrame) -> Any:
    rows = [[row["title"], f"{row['before']:.2%}", f"{row['now']:.2%}"] for _, row in movers.iterrows()]
    names = ["item", "share before", "share now"]
    return table_data(title="Items that rose and fell most", column_names=names, data=rows)


def _versions(quality: pd.DataFrame) -> Any:
    rates = ["hit_rate", "click_rate", "fallbacks"]
    rows = [
        [f"{row['start']:%Y-%m-%d}", row["model_version"], row["requests"], *(f"{row[rate]:.3f}" for rate in rates)]
        for _, row in quality.iterrows()
    ]
    names = ["interval from", "model", "requests", "hit rate", "click rate", "fallbacks"]
    return table_data(title="Online quality by model version", column_names=names, data=rows, size=WidgetSize.HALF)
