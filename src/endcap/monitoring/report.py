"""One Evidently report of everything that is watched, as an HTML page. Evidently takes four seconds to import: only here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.data.atomic_write import write_atomically
from endcap.monitoring.checks import Kind

if TYPE_CHECKING:
    from endcap.monitoring.watch import Watched
    from endcap.monitoring.windows import Windows


def build_report(watched: Watched, windows: Windows, *, dataset_version: str, model_version: str) -> Any:
    """An Evidently snapshot: the decision, then each check with its picture; what moved comes first."""
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report

    from endcap.monitoring.measurement import CHECKS, MOVERS, QUALITY, VERDICT, Measurement, Verdict

    ordered = sorted(watched.checks, key=lambda check: (not check.drifted, check.kind is Kind.COLUMN))
    columns = [check.name for check in watched.checks if check.kind is Kind.COLUMN]
    metrics = [Verdict(), *(Measurement(name=check.name) for check in ordered)]
    metrics += [Measurement(name=check.name, of="limit") for check in ordered if check.kind in (Kind.TEXT, Kind.SCORES)]
    definition = DataDefinition(categorical_columns=columns)
    return Report(metrics, include_tests=True).run(
        Dataset.from_pandas(watched.current[columns], data_definition=definition),
        Dataset.from_pandas(watched.reference[columns], data_definition=definition),
        additional_data={
            CHECKS: pd.DataFrame([check.to_json() | {"says": check.says()} for check in ordered]),
            VERDICT: pd.DataFrame([_verdict(watched, windows, dataset_version, model_version)]),
            QUALITY: watched.quality,
            MOVERS: watched.movers,
        },
        timestamp=windows.end.replace(tzinfo=None),
        metadata={"dataset_version": dataset_version, "model_version": model_version},
        name=f"{dataset_version}, model {model_version}",
    )


def _verdict(watched: Watched, windows: Windows, dataset_version: str, model_version: str) -> dict[str, Any]:
    title = f"{dataset_version}: {windows.start:%Y-%m-%d} to {windows.end:%Y-%m-%d} against the {windows.blocks} intervals "
    title += f"from {windows.reference_start:%Y-%m-%d}, which model {model_version} learnt"
    decision = watched.decision
    reasons = "; ".join(decision.reasons) or "Every check is as usual, or too few columns moved."
    return {"drifted": decision.drifted, "share": decision.share, "reasons": reasons, "title": title}


def save_page(snapshot: Any, page: Path) -> None:
    """Write the report as one self-contained HTML file; a former one is replaced whole."""
    write_atomically(page, snapshot.get_html_str(as_iframe=False))
