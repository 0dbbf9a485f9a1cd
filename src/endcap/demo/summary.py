"""The end of the demo: what happened, as `summary.json`, a picture and a page of text."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from rich.table import Table

from endcap import stack
from endcap.config import Params, Settings, project_root
from endcap.contracts import CHAMPION, MODEL_NAME
from endcap.data.atomic_write import write_atomically
from endcap.demo import prequential
from endcap.demo.narrator import Narrator
from endcap.demo.state import DemoState
from endcap.pipeline import code

if TYPE_CHECKING:
    import pandas as pd

    from endcap.data.versions import DatasetRepository
    from endcap.demo.shops import DemoShop
    from endcap.release.registry import Registry


def write_summary(settings: Settings, params: Params, shop: DemoShop, state: DemoState, tell: Narrator) -> dict[str, Any]:
    """Measure the weeks, write `var/demo/summary.json` and `weekly.png`, print both the story and the addresses."""
    from endcap.data.versions import DatasetRepository
    from endcap.release.registry import Registry

    tell.heading("What happened")
    repository = DatasetRepository(settings.paths, settings.dvc_remote_url, code.snapshot().commit)
    registry = Registry(settings.mlflow_url)
    folder = settings.paths.demo
    with tell.step("summary", "Every week ranked as it was before it was learnt"):
        measured = _measure(settings, params, shop, state, repository, registry)
        measured.to_parquet(folder / "weekly.parquet")
        rows = prequential.weekly(measured, params.evaluate.k)
        prequential.plot(rows, params.evaluate.k, folder / "weekly.png")
    summary = _collect(settings, shop, state, repository, registry)
    summary["weekly"], summary["intervals"] = rows, prequential.intervals(measured, params)
    write_atomically(folder / "summary.json", json.dumps(summary, indent=1, default=str))
    _print(summary, params.evaluate.k, settings, tell)
    return summary


def _measure(
    settings: Settings, params: Params, shop: DemoShop, state: DemoState, repository: DatasetRepository, registry: Registry
) -> pd.DataFrame:
    """Rank each replayed week with the models of that time, from the newest dataset version."""
    dataset = settings.paths.demo / "dataset"
    repository.checkout("latest", dataset)
    weeks = []
    for number, start in enumerate(shop.weeks, start=1):
        served = state.done[f"week{number}_serving"]["champion"]
        champion = registry.download(served, settings.paths.models) if served else None
        weeks.append(prequential.Week(f"{start:%Y-%m-%d}", start, start + timedelta(days=7), champion))
    first = next((week.champion for week in weeks if week.champion), None)
    return prequential.measure(dataset, weeks, first, params)


def _collect(
    settings: Settings, shop: DemoShop, state: DemoState, repository: DatasetRepository, registry: Registry
) -> dict[str, Any]:
    done = state.done
    weeks = [f"week{number}" for number in range(1, len(shop.weeks) + 1)]
    promotions = [done["first_promotion"], *(done[f"{week}_promotion"] for week in weeks)]
    judged = [*promotions, *([done["spoiled"]] if "spoiled" in done else [])]
    refused = [p for p in judged if not p["approved_by"]]
    champion = registry.champion()
    install = project_root() / ".venv" / "install_seconds"
    return {
        "shop": shop.name,
        "shop_reason": shop.why,
        "code_commit": code.snapshot().commit,
        "dataset_versions": [
            {
                "version": v.version,
                "events": v.events,
                "added_events": v.added_events,
                "cleaning": v.cleaning,
                "interval_end": v.interval_end,
            }
            for v in repository.versions()
        ],
        "model_versions": [
            {
                "version": p["model_version"],
                "kind": p["kind"],
                "dataset_version": p["dataset_version"],
                "gate_passed": p["gate_passed"],
                "approved_by": p["approved_by"],
                "scorecard": p["scorecard"],
            }
            for p in sorted(judged, key=lambda p: int(p["model_version"]))
        ],
        "champion": champion.version if champion else None,
        "quarantined": [
            {
                "batch": done["poisoned"]["batch"],
                "reason": "; ".join(done["poisoned"]["reasons"]),
                "report": done["poisoned"]["report"],
            }
        ]
        if "poisoned" in done
        else [],
        "refused_candidates": [
            {"version": p["model_version"], "failed_gates": p["failed_gates"], "run": p["run_url"]} for p in refused
        ],
        "drift": [
            {
                "date": done[f"{w}_drift"]["date"],
                "drifted": done[f"{w}_drift"]["drifted"],
                "report": done[f"{w}_drift"]["report_url"],
            }
            for w in weeks
        ],
        "online": [{"week": week, **done[f"{week}_replay"]} for week in weeks],
        "seconds": ({"install": float(install.read_text())} if install.exists() else {}) | state.seconds,
        "urls": urls(settings),
        "written_at": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def urls(settings: Settings) -> dict[str, str]:
    """Where each screen is."""
    return {
        "airflow": settings.airflow_url,
        "registry": f"{settings.mlflow_url}/#/models/{MODEL_NAME}",
        "drift_reports": settings.evidently_url,
        "service": settings.serving_url,
        "service_api": f"{settings.serving_url}/docs",
        "storefront": f"{settings.serving_url}/shop",
        "operator": f"{settings.serving_url}/operator",
        "reports": settings.reports_url,
    }


def _print(summary: dict[str, Any], k: int, settings: Settings, tell: Narrator) -> None:
    models = list(dict.fromkeys(row["model"] for row in summary["weekly"]))
    weeks = list(dict.fromkeys(row["week"] for row in summary["weekly"]))
    if weeks:
        table = Table(
            title=f"NDCG@{k} on each week's real purchases, before they were learnt (in brackets: items new to the shopper)"
        )
        table.add_column("model")
        for week in weeks:
            table.add_column(week, justify="right")
        cells = {(row["week"], row["model"]): _cell(row, k) for row in summary["weekly"]}
        for model in models:
            table.add_row(model, *(cells.get((week, model), "–") for week in weeks))
        tell.console.print(table)
    for gap in summary["intervals"]:
        if gap["metric"] == f"ndcg_at_{k}" and gap["week"] is None:
            tell.say(
                f"updated champion less {gap['against']}: {gap['difference']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}]"
            )
    for row in summary["model_versions"]:
        outcome = f"approved by {row['approved_by']}" if row["approved_by"] else "[red]refused[/]"
        serving = f"  ← {CHAMPION}" if row["version"] == summary["champion"] else ""
        tell.say(f"model {row['version']} ({row['kind']}, {row['dataset_version']}): {outcome}{serving}")
    for name, url in summary["urls"].items():
        tell.say(f"{name:14} {url}")
    for user, password in stack.log_ins(settings).items():
        tell.say(f"log-in {user:8} {password}")
    tell.say(f"Summary: {settings.paths.demo / 'summary.json'}   Picture: {settings.paths.demo / 'weekly.png'}")
    tell.say("The stack stays up until `make down`.")


def _cell(row: dict[str, Any], k: int) -> str:
    new = row[f"ndcg_at_{k}_new"]
    return f"{row[f'ndcg_at_{k}']:.4f}" + ("" if new is None else f" ({new:.4f})")
