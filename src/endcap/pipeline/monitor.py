"""What the DAG monitor_models calls: has the shop moved away from what the champion learnt, and is an update wanted?"""

from __future__ import annotations

import json
import logging
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from endcap.config import Params, Settings, load_params, load_settings, project_root
from endcap.data.atomic_write import write_atomically
from endcap.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pandas as pd

    from endcap.contracts import DatasetVersion, ModelVersion
    from endcap.data.versions import DatasetRepository
    from endcap.models.blend import BlendedRecommender
    from endcap.models.history import Floats
    from endcap.models.text.space import TextSpace
    from endcap.monitoring.watch import Watched
    from endcap.monitoring.windows import Windows
    from endcap.release.registry import Registry

log = logging.getLogger(__name__)

ENCODE_SECONDS = 5.0  # for texts that are new since the champion learnt; what is not encoded by then is left out
TEXT_CACHE = "text-vectors"  # the folder below the home where the stage `encode` keeps vectors by content


def check_drift(dataset_version: str = "latest", model_version: str | None = None) -> dict[str, Any]:
    """Compare the newest interval of a dataset version with what a model (default: the champion) learnt, and publish a report.

    Returns {"drifted", "share", "reasons", "warnings", "report_url", "exposures_url", "ui_url", "dataset_version",
    "model_version", "date", "interval", "checks"}; where nothing can be compared yet, `drifted` is false and "skipped" says
    why. `warnings` are what the exposures, from which the online quality is counted, broke of their contract. A rerun
    replaces the report.

    Raises:
        DatasetError, RegistryError: there is no such version.
        ServiceUnavailable: MLflow, the event log or the DVC remote does not answer.
    """
    from endcap.data.versions import DatasetRepository
    from endcap.release.registry import Registry

    settings, params = load_settings(), load_params()
    repository, registry = DatasetRepository(settings.paths, settings.dvc_remote_url), Registry(settings.mlflow_url)
    card = repository.get(dataset_version)
    model = registry.get(model_version) if model_version else registry.champion()
    if model is None:
        return _skipped(card, None, "no champion yet")
    try:
        windows, watched, shown = _watch(settings, params, repository, registry, card, model)
    except InputError as error:
        return _skipped(card, model, str(error))
    page = _publish(settings, watched, windows, card, model)
    result = {
        "drifted": watched.decision.drifted,
        "share": round(watched.decision.share, 4),
        "reasons": list(watched.decision.reasons),
        **shown,
        **page,
        **_which(card, model),
        "interval": [windows.start.isoformat(), windows.end.isoformat()],
        "reference": [windows.reference_start.isoformat(), windows.reference_end.isoformat()],
        "checks": [check.to_json() for check in watched.checks],
    }
    _remember(settings, result)
    log.info("drift checked", extra={key: result[key] for key in ("dataset_version", "model_version", "drifted")})
    return result


def update_wanted(check: dict[str, Any], run_id: str) -> bool:
    """Whether a drift check starts an update: it drifted, and no other update started within the cooldown (in data time).

    The same run (a task tried again) gets the same answer; another run for the same dataset version gets a no.
    """
    from endcap.monitoring.cooldown import Cooldown

    if not check["drifted"]:
        return False
    settings, params = load_settings(), load_params()
    cooldown = Cooldown(settings.home / "monitoring" / "updates.json", params.monitoring.cooldown_days)
    return cooldown.ask(run_id, check["dataset_version"], date.fromisoformat(check["date"]))


def past_checks() -> list[dict[str, Any]]:
    """The results of all checks whose reports are still there, by date."""
    folder = load_settings().paths.reports / "drift"
    found = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*/check.json")]
    return sorted(found, key=lambda check: (check["date"], check["dataset_version"]))


def _watch(
    settings: Settings,
    params: Params,
    repository: DatasetRepository,
    registry: Registry,
    card: DatasetVersion,
    model: ModelVersion,
) -> tuple[Windows, Watched, dict[str, Any]]:
    """Load what is compared, and compare it; also what the exposures broke of their contract."""
    import numpy as np

    from endcap.data.features import TYPES
    from endcap.data.locks import scratch
    from endcap.models.model_files import load_model
    from endcap.monitoring.watch import Champion, watch

    model_dir = registry.download(model, settings.paths.models)
    champion = load_model(model_dir)
    with scratch(settings.home / "scratch") as folder:
        repository.checkout(card.version, folder / "dataset")
        windows = _windows(folder / "dataset", card, champion, params)
        events, catalog = _read(folder / "dataset", windows)
    exposures = _exposures(settings, windows, params.monitoring.online_intervals)
    targets = tuple(np.asarray(TYPES)[champion.target_types].tolist())
    space = _text_space(params, champion, model_dir)
    known = Champion(champion, champion.items, unwhitened(space, champion.model.text.numpy()), targets)
    shown = _check_exposures(settings, params, card, exposures, catalog, windows)
    encode = _encoder(settings, params, space)
    return windows, watch(events, catalog, exposures, known, windows, params.monitoring, encode), shown


def _windows(dataset: Path, card: DatasetVersion, champion: BlendedRecommender, params: Params) -> Windows:
    from endcap.data.partitions import partition_days
    from endcap.monitoring.windows import choose_windows

    days = partition_days(dataset)
    return choose_windows(
        card.interval_end,
        datetime.fromisoformat(champion.config["trained_until"]),
        interval_days=params.monitoring.interval_days,
        reference_days=params.monitoring.reference_days,
        first_event=datetime.combine(days[0], datetime.min.time(), UTC) if days else card.interval_end,
    )


def _read(dataset: Path, windows: Windows) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Events as far back as any check looks, and the catalogue."""
    import pandas as pd

    from endcap.data.partitions import read_events

    events = read_events(dataset, windows.reference_start - windows.lookback, windows.end)
    return events.to_pandas(), pd.read_parquet(dataset / "catalog.parquet")


def _exposures(settings: Settings, windows: Windows, intervals: int) -> pd.DataFrame:
    """What was shown in the newest interval and the `intervals` before."""
    from endcap.data.events import EventLog

    event_log = EventLog(settings.event_log_url)
    try:
        event_log.create()
        found: pd.DataFrame = event_log.exposures(windows.start - intervals * windows.length, windows.end).to_pandas()
        return found
    finally:
        event_log.close()


def _check_exposures(
    settings: Settings, params: Params, card: DatasetVersion, exposures: pd.DataFrame, catalog: pd.DataFrame, windows: Windows
) -> dict[str, Any]:
    """Hold what was shown against its contract: {"warnings", "exposures_url"}. It blocks nothing: it has been shown already."""
    import pyarrow as pa

    from endcap import contracts
    from endcap.data.batch_checks import event_frame, parameters
    from endcap.data.validation import ValidationContext, validate

    if exposures.empty:
        return {"warnings": [], "exposures_url": None}
    rows = pa.Table.from_pandas(exposures, schema=contracts.exposure_schema(), preserve_index=False)
    listed = pa.Table.from_pandas(catalog[["item_id", "title", "price"]], preserve_index=False)
    folder = settings.paths.reports / "drift" / card.version
    values = parameters(params.ingest, windows.start, windows.end, [])
    context = ValidationContext(project_root() / "expectations", folder, card.version, values)
    result = validate("exposures", event_frame(rows, listed), context)
    found = [f"exposures: {line}" for line in (*result.reasons, *result.warnings)]
    for line in found:
        log.warning("exposures break their contract", extra={"dataset_version": card.version, "finding": line})
    return {"warnings": found, "exposures_url": f"{settings.reports_url}/drift/{card.version}/{result.report.name}"}


def _text_space(params: Params, champion: BlendedRecommender, model_dir: Path) -> TextSpace:
    """The champion's own."""
    from endcap.models.text.space import TextSpace, load_space

    of_its_time = str(champion.config.get("encoder", params.encode.model))  # a model from before spaces were kept
    return load_space(model_dir) or TextSpace(of_its_time, params.encode.max_tokens)


def unwhitened(space: TextSpace, vectors: Floats) -> Floats:
    """Whitening makes all directions equally wide; what is bought drifts along the wide ones (docs/adr/0008)."""
    return space.whitening.undo(vectors) if space.whitening else vectors


def _encoder(settings: Settings, params: Params, space: TextSpace) -> Callable[[pd.DataFrame], Floats]:
    """Into a text space as it is without its whitening, with the cache that training keeps."""
    from endcap.data.item_text import item_texts

    options, cache = params.encode, settings.home / TEXT_CACHE

    def encode(catalog: pd.DataFrame) -> Floats:
        vectors, left = space.encode(item_texts(catalog), options.batch_size, cache, ENCODE_SECONDS)
        if left:
            log.warning("texts left out of the drift check", extra={"left": left, "seconds": ENCODE_SECONDS})
        return unwhitened(space, vectors)

    return encode


def _publish(
    settings: Settings, watched: Watched, windows: Windows, card: DatasetVersion, model: ModelVersion
) -> dict[str, str]:
    """Write the page and the run in Evidently's workspace; return where both are shown."""
    from endcap.monitoring import workspace
    from endcap.monitoring.checks import Kind
    from endcap.monitoring.report import build_report, save_page

    which = {"dataset_version": card.version, "model_version": model.version}
    snapshot = build_report(watched, windows, **which)
    save_page(snapshot, settings.paths.reports / "drift" / card.version / "index.html")
    columns = [check.name for check in watched.checks if check.kind is Kind.COLUMN]
    workspace.add_run(snapshot, settings.paths.evidently, columns, **which)
    return {
        "report_url": f"{settings.reports_url}/drift/{card.version}/index.html",
        "ui_url": settings.evidently_url + workspace.run_path(**which),
    }


def _remember(settings: Settings, result: dict[str, Any]) -> None:
    file = settings.paths.reports / "drift" / result["dataset_version"] / "check.json"
    write_atomically(file, json.dumps(result, indent=2))


def _which(card: DatasetVersion, model: ModelVersion | None) -> dict[str, Any]:
    day = card.interval_end.astimezone(UTC).date().isoformat()
    return {"dataset_version": card.version, "model_version": model.version if model else None, "date": day}


def _skipped(card: DatasetVersion, model: ModelVersion | None, why: str) -> dict[str, Any]:
    log.info("drift check skipped", extra={"dataset_version": card.version, "reason": why})
    nothing = {
        "drifted": False,
        "share": 0.0,
        "reasons": [],
        "warnings": [],
        "exposures_url": None,
        "report_url": "",  # no button in Airflow
        "ui_url": None,
        "interval": None,
        "checks": [],
    }
    return {**nothing, "skipped": why, **_which(card, model)}
