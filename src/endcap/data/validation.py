"""Data contracts: a Great Expectations suite (`expectations/<suite>.json`) run on a frame, and its result page.

An expectation of severity `critical` blocks the batch, one of severity `warning` is only reported; `notes` says in plain words
what it protects. Not here: a batch's parameters (`batch_checks.py`) and what becomes of one that breaks them
(`pipeline/quarantine.py`).
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.contracts import CheckResult
from endcap.data.validation_page import write_page
from endcap.errors import ConfigError, InputError, shorten

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = 5  # unexpected values shown a check
LONGEST_EXAMPLE = 130  # characters
BOUNDS = {f"expect_column_{statistic}_to_be_between" for statistic in ("max", "min", "mean", "median")}


@dataclass(frozen=True, slots=True)
class ValidationContext:
    """What a suite needs besides the frame: where the suites lie, where the page goes, and the values of `$PARAMETER`s."""

    suites: Path
    report: Path  # a folder: gets <suite>.html
    batch_id: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Validation:
    """`passed`: no blocking check failed. `report` is the page."""

    suite: str
    passed: bool
    checks: tuple[CheckResult, ...]
    report: Path

    @property
    def reasons(self) -> list[str]:
        """Why the frame is rejected, a line for each blocking check that failed."""
        return [_line(check) for check in self.checks if check.blocking and not check.passed]

    @property
    def warnings(self) -> list[str]:
        return [_line(check) for check in self.checks if not check.blocking and not check.passed]


def validate(suite: str, frame: pd.DataFrame, context: ValidationContext) -> Validation:
    """Run the suite and write its page.

    Expectations on a column that the frame lacks are left out: the check of the columns has already said so. So are bounds of a
    column without a value, such as prices of views. Repeated strings as categories make the run several times faster.

    Raises:
        ConfigError: no such suite, or one that Great Expectations cannot read.
        InputError: the frame has no rows.
    """
    if frame.empty:
        raise InputError("has no rows", field=suite, action="Deliver a batch with at least one row.")
    configured = _load(context.suites / f"{suite}.json")
    present = [one for one in configured["expectations"] if _applies(one, frame)]
    result = _run(suite, present, frame, context.parameters)
    checks = tuple(_check(one) for one in result.results)
    passed = all(check.passed for check in checks if check.blocking)
    report = write_page(result, context.report / f"{suite}.html", f"{context.batch_id} · {suite}", checks)
    return Validation(suite, passed, checks, report)


def _applies(expectation: Mapping[str, Any], frame: pd.DataFrame) -> bool:
    column = expectation["kwargs"].get("column", frame.columns[0])
    return column in frame.columns and not (expectation["type"] in BOUNDS and frame[column].isna().all())


def _load(path: Path) -> dict[str, Any]:
    try:
        suite: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        action = "`expectations/` holds one JSON file a contract."
        raise ConfigError(f"cannot be read ({error})", field=str(path), action=action) from error
    return suite


def _run(suite: str, expectations: list[dict[str, Any]], frame: pd.DataFrame, parameters: Mapping[str, Any]) -> Any:
    """The suite's result, by the library's own engine on the frame in memory: no project of its files, no calls home.

    Going by its data sources instead would hash every cell twice, which takes longer than all checks.
    """
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own notices about its dependencies
        import pandas as pd
        from great_expectations import ExpectationSuite
        from great_expectations.core.expectation_validation_result import ExpectationSuiteValidationResult
        from great_expectations.exceptions.exceptions import GreatExpectationsError
        from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine
        from great_expectations.validator.validation_statistics import calc_validation_statistics
        from great_expectations.validator.validator import Validator

        validator = Validator(execution_engine=PandasExecutionEngine(batch_data_dict={suite: frame}))
        validator.metrics_calculator.show_progress_bars = False
        form = {"result_format": "SUMMARY", "partial_unexpected_count": EXAMPLES}
        try:
            filled = [{**one, "kwargs": _fill(one["kwargs"], parameters)} for one in expectations]
            configured = ExpectationSuite(name=suite, expectations=filled).expectation_configurations
            with pd.option_context("mode.copy_on_write", True):  # else each check copies the frame
                results = validator.graph_validate(configured, runtime_configuration={"result_format": form})
        except (GreatExpectationsError, KeyError, TypeError, ValueError) as error:
            action = "Compare the suite with another one, and its $PARAMETERs with batch_checks.py."
            raise ConfigError(f"cannot be run ({error!r})", field=f"expectations/{suite}.json", action=action) from error
    for one in results:
        if hasattr(one.result.get("observed_value"), "item"):  # its own page cannot show numpy's numbers
            one.result["observed_value"] = one.result["observed_value"].item()
    statistics = calc_validation_statistics(results)
    return ExpectationSuiteValidationResult(
        success=all(one.success for one in results if _blocks(one)),  # warnings do not fail a batch
        results=results,
        suite_name=suite,
        statistics={
            "evaluated_expectations": statistics.evaluated_expectations,
            "successful_expectations": statistics.successful_expectations,
            "unsuccessful_expectations": statistics.unsuccessful_expectations,
            "success_percent": statistics.success_percent,
        },
    )


def _fill(kwargs: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Replace `{"$PARAMETER": name}` by its value, so that the page shows what was asked for."""
    return {key: parameters[v["$PARAMETER"]] if isinstance(v, dict) and "$PARAMETER" in v else v for key, v in kwargs.items()}


def _check(result: Any) -> CheckResult:
    config = result.expectation_config
    kwargs = config.kwargs
    column = kwargs.get("column") or "+".join(kwargs.get("column_list", ())) or "table"
    name = f"{column}: {config.type.removeprefix('expect_').removeprefix('column_').removeprefix('table_')}"
    blocking = _blocks(result)
    notes = config.notes if isinstance(config.notes, str) else " ".join(config.notes or [])
    return CheckResult(name, bool(result.success), blocking, _observed(result), notes)


def _blocks(result: Any) -> bool:
    severity = result.expectation_config.severity
    return str(getattr(severity, "value", severity)) == "critical"


def _observed(result: Any) -> str:
    """What was found, in one line."""
    details = result.result
    if _exception(result):
        return f"could not be evaluated ({_exception(result)})"
    if details.get("unexpected_count"):
        examples = ", ".join(dict.fromkeys(_example(value) for value in details.get("partial_unexpected_list") or []))
        share = f" ({details['unexpected_percent']:.2f} %)" if "unexpected_percent" in details else ""
        return f"{details['unexpected_count']:,} values{share}{f', such as {examples}' if examples else ''}"
    if "mismatched" in (details.get("details") or {}):
        mismatch = details["details"]["mismatched"]
        return f"missing {', '.join(mismatch.get('missing', ()))}"
    value = details.get("observed_value", "")
    if isinstance(value, list):
        return f"{len(value):,} distinct values"
    found = f"{value:,.6g}" if isinstance(value, int | float) else str(value)
    limits = [result.expectation_config.kwargs.get(key) for key in ("min_value", "max_value")]
    bounds = [f"{word} {limit}" for word, limit in zip(("at least", "at most"), limits, strict=True) if limit is not None]
    return f"{found}, allowed {' and '.join(bounds)}" if bounds and not result.success else found


def _example(value: object) -> str:
    """A value in a line of its own: a long one is cut, and a control character is written out."""
    text = str(value)
    return text if len(text) <= LONGEST_EXAMPLE and text.isprintable() else shorten(text, LONGEST_EXAMPLE)


def _exception(result: Any) -> str:
    """The first error inside an expectation; the information comes flat or a dictionary for each metric."""
    info = result.exception_info or {}
    if "raised_exception" in info:
        return str(info.get("exception_message") or "unknown") if info["raised_exception"] else ""
    return next((str(one.get("exception_message")) for one in info.values() if one.get("raised_exception")), "")


def _line(check: CheckResult) -> str:
    return f"{check.expected} Found {check.observed} ({check.name})."
