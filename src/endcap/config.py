"""params.yaml and the environment, typed. Only cli, demo, pipeline and serving load it; everybody else is handed a section.

Unknown keys are errors that name the key, its value and the nearest right one. Loading creates nothing and connects to nothing.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import typing
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from endcap.contracts import Surface
from endcap.errors import ConfigError
from endcap.search_space import Tune, check_space

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Confidence = Annotated[float, Field(gt=0.5, lt=1)]  # at a half and below, a lower bound would lie above the mean


class Section(BaseModel):
    """A part of params.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SimulatedShop(Section):
    seed: int
    items: Count
    shoppers: Count
    days: Count


class Shop(Section):
    name: Literal["online-retail", "simulated"]
    history_until: date
    weeks: Annotated[int, Field(ge=0)]
    simulated: SimulatedShop


class Ingest(Section):
    clock_skew_minutes: Annotated[float, Field(ge=0)]
    max_price: Positive  # shop currency
    volume_ratio: tuple[Positive, Positive]
    catalog_code_pattern: str | None = None  # None: every code is an item, unless the shop's own mapping says otherwise
    max_dropped_share: Fraction = 0.6  # of the events whose shopper is known

    @field_validator("volume_ratio")
    @classmethod
    def _ascending(cls, ratio: tuple[float, float]) -> tuple[float, float]:
        if ratio[0] >= ratio[1]:
            raise ValueError("the first number must be below the second")
        return ratio

    @field_validator("catalog_code_pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"is no regular expression ({error})") from error
        return pattern


class Prepare(Section):
    validation_days: Count
    holdout_days: Count
    min_item_events: Count


class Adapt(Section):
    method: Literal["none", "mlm", "contrastive", "behaviour"]
    peft: Literal["none", "lora", "adalora"]
    rank: Count
    alpha: Positive
    layers: Count  # the top ones; the rest stays as it is
    steps: Count
    batch_size: Annotated[int, Field(ge=2)]  # texts, or pairs of texts
    learning_rate: Positive
    temperature: Positive
    max_tokens: Annotated[int, Field(ge=4)]
    checkpoint_steps: Count
    seed: int
    max_seconds: Positive


class Encode(Section):
    model: str
    max_tokens: Annotated[int, Field(ge=4)]
    max_chunks: Count
    whitening: Literal["none", "pca"]
    dims: Count | None  # None: all
    batch_size: Count
    max_seconds: Positive


class Update(Section):
    epochs: Count
    learning_rate: Positive
    replay_ratio: Annotated[float, Field(ge=0)]


class Augment(Section):
    crop: Fraction  # of windows
    mask: Annotated[float, Field(ge=0, lt=1)]  # of events
    reorder: Fraction  # of neighbours in time


class Train(Section):
    seed: int
    dim: Count
    layers: Count
    heads: Count  # divides dim
    max_length: Count  # events of a shopper that the transformer reads
    dropout: Annotated[float, Field(ge=0, lt=1)]
    id_dropout: Annotated[float, Field(ge=0, lt=1)]  # share of items that a step shows by their text alone
    loss: Literal["softmax", "sampled", "gbce"]
    negatives: Count  # items a step
    negative_sampling: Literal["uniform", "popularity"]
    logq: bool
    augment: Augment
    adversarial: Annotated[float, Field(ge=0)]  # lengths of an item's vector
    learning_rate: Positive
    weight_decay: Annotated[float, Field(ge=0)]
    batch_size: Count  # windows
    batch_tokens: Count  # events
    max_epochs: Count
    ema_decay: Annotated[float, Field(ge=0, lt=1)]  # 0: off
    patience: Count
    precision: Literal["auto", "fp32", "bf16"]
    max_seconds: Positive
    processes: Count = 1
    update: Update

    @field_validator("heads")
    @classmethod
    def _divides(cls, heads: int, given: ValidationInfo) -> int:
        if given.data.get("dim", heads) % heads:
            raise ValueError(f"train.dim ({given.data['dim']}) must be a multiple of train.heads")
        return heads


class Behaviour(Section):
    """The head that predicts clicks and purchases. What counts as one: monitoring.attribution_hours."""

    enabled: bool = True
    min_rows: Annotated[int, Field(ge=100)] = 1000  # shown items
    max_rows: Annotated[int, Field(ge=100)] = 60_000  # shown items, the newest

    @model_validator(mode="after")
    def _at_least(self) -> Behaviour:
        if self.max_rows < self.min_rows:
            raise ValueError(f"behaviour.max_rows ({self.max_rows}) must not be below behaviour.min_rows ({self.min_rows})")
        return self


class Evaluate(Section):
    k: Count
    bootstrap_samples: Annotated[int, Field(ge=50)]  # fewer say nothing of a tail
    confidence: Confidence
    seed: int


class Gates(Section):
    confidence: Confidence
    margin_vs_champion: Fraction
    margin_vs_baselines: Fraction
    slice_margin: Fraction
    slice_min_users: Count
    min_coverage: Fraction
    max_latency_ms: Positive
    max_size_mb: Positive


class Serving(Section):
    repeat_surfaces: tuple[Surface, ...]
    max_k: Count
    max_history: Count
    reload_seconds: Positive


class Monitoring(Section):
    interval_days: Count
    reference_days: Count
    psi_threshold: Positive
    strong_psi: Positive
    unusual_ratio: Annotated[float, Field(ge=1)]
    drift_share: Fraction
    text_threshold: Positive  # mmd
    online_intervals: Count
    attribution_hours: Positive
    min_online_ratio: Fraction
    min_online_requests: Count
    cooldown_days: Annotated[int, Field(ge=0)]


class Params(Section):
    """All of params.yaml."""

    shop: Shop
    ingest: Ingest
    prepare: Prepare
    adapt: Adapt
    encode: Encode
    train: Train
    tune: Tune
    behaviour: Behaviour = Behaviour()  # code trees from before it have no such section
    recent_days: Count
    evaluate: Evaluate
    gates: Gates
    serving: Serving
    monitoring: Monitoring

    def digest(self) -> str:
        """The first 12 hex digits of the sha256 of all values: the `params_hash` of a model version."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def load_params(path: Path | None = None) -> Params:
    """Read params.yaml (default: `ENDCAP_PARAMS`, else ./params.yaml, else the project's).

    Raises:
        ConfigError: unreadable, an unknown key, or a value out of range.
    """
    path = path or params_path()
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot be read ({error})", field=str(path), action="Mend the file or set ENDCAP_PARAMS.") from error
    return _validated(raw, str(path))


def with_values(params: Params, values: Mapping[str, Any]) -> Params:
    """The parameters with some of them changed; `values` has dotted keys: {"train.dim": 32}.

    Raises:
        ConfigError: an unknown key, a value out of range, or values that do not go together.
    """
    changed = params.model_dump()
    for key, value in values.items():
        *sections, name = key.split(".")
        at = changed
        for section in sections:
            at = at.setdefault(section, {})
        at[name] = value
    return _validated(changed, "the changed parameters")


def _validated(raw: Any, where: str) -> Params:
    try:
        params = Params.model_validate(raw)
    except ValidationError as error:
        raise _explain(error, where) from error
    check_space(params.tune, Params)
    return params


class _UniqueKeys(yaml.SafeLoader):
    """YAML lets the last of two equal keys win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise yaml.YAMLError(f"the key `{twice}` is there twice, again in line {node.start_mark.line + 1} or below")
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


def params_path() -> Path:
    """The file that `load_params` reads by default."""
    if override := os.environ.get("ENDCAP_PARAMS"):
        return Path(override)
    here = Path.cwd() / "params.yaml"
    return here if here.exists() else project_root() / "params.yaml"


def _explain(error: ValidationError, where: str) -> ConfigError:
    first = error.errors()[0]
    keys = [str(part) for part in first["loc"]]
    name = ".".join(keys)
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(keys[-1], _fields_at(keys[:-1]), n=1)
        action = f"Did you mean `{near[0]}`?" if near else f"Known keys: {', '.join(_fields_at(keys[:-1]))}."
        return ConfigError(f"unknown key in {where}", field=name, value=first["input"], action=action)
    return ConfigError(f"{first['msg']} in {where}", field=name, value=first["input"], action="See params.yaml for an example.")


def _fields_at(keys: list[str]) -> list[str]:
    model: type[BaseModel] = Params
    for key in keys:
        annotation: Any = model.model_fields[key].annotation if key in model.model_fields else model
        values = typing.get_args(annotation)  # dict[str, Dimension]: its own key is skipped in the next round
        model = values[1] if values else annotation
    return list(model.model_fields)


def project_root() -> Path:
    """The checkout this package runs from; `ENDCAP_PROJECT` overrides. An installed wheel has none: the current folder."""
    if override := os.environ.get("ENDCAP_PROJECT"):
        return Path(override).resolve()
    root = Path(__file__).resolve().parents[2]
    return root if (root / "dvc.yaml").exists() else Path.cwd()


class Home:
    """Where everything lives below `ENDCAP_HOME`. Paths only; nothing is created here."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.airflow = root / "airflow"
        self.mlflow = root / "mlflow"
        self.evidently = root / "evidently"
        self.datasets = root / "datasets.git"  # bare git repository of dataset versions
        self.code = root / "code.git"  # bare git repository of code snapshots
        self.dvc_cache = root / "dvc-cache"
        self.dvc_remote = root / "dvc-remote"
        self.landing = root / "landing"  # files delivered by `endcap ingest`, not yet taken by ingest_events
        self.batches = root / "batches"  # one folder a batch: raw, validation, cleaning
        self.quarantine = root / "quarantine"
        self.workspaces = root / "workspaces"  # one checkout a run
        self.tuning = root / "tuning"  # one folder a study
        self.reports = root / "reports"  # HTML pages: data docs, scorecards, drift; served by Airflow under /endcap/reports
        self.models = root / "models"  # registry downloads, by version
        self.secrets = root / "secrets"
        self.logs = root / "logs"
        self.demo = root / "demo"

    def __repr__(self) -> str:
        return f"Home({str(self.root)!r})"


class Settings(BaseModel):
    """Addresses and secrets from the environment. `endcap env` prints this table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path = Field(description="State lives here; delete it and the project is as new.")
    data_dir: Path | None = Field(None, description="Folder with real data sets; unset: download, else the simulated shop.")
    event_log_url: str = Field("", description="SQLAlchemy URL of the event log; default SQLite in the home.")
    dvc_remote_url: str = Field("", description="Any DVC remote (s3://…); default a folder in the home.")
    mlflow_url: str = Field("", description="MLflow's address.")
    airflow_url: str = Field("", description="Airflow's address.")
    evidently_url: str = Field("", description="Evidently's address.")
    serving_url: str = Field("", description="The recommendation service's address.")
    airflow_user: str = Field("operator", description="Log-in that pipelines and the demo use for Airflow's API.")
    airflow_password: str = Field("", description="Its password; default: the one generated in the home.")
    ingest_schedule: str = Field("", description="Cron of ingest_events; empty: it runs by hand.")
    retrain_schedule: str = Field("", description="Cron of retrain_full; empty: it runs by hand.")
    pseudonym_key: str = Field("", description="Secret that turns user ids into pseudonyms; default: generated in the home.")
    airflow_port: int = Field(8080, ge=1, le=65535)
    mlflow_port: int = Field(5000, ge=1, le=65535)
    evidently_port: int = Field(8001, ge=1, le=65535)
    serving_port: int = Field(8088, ge=1, le=65535)

    @property
    def paths(self) -> Home:
        return Home(self.home)

    @property
    def reports_url(self) -> str:
        return f"{self.airflow_url}/endcap/reports"


def load_settings(environ: dict[str, str] | None = None) -> Settings:
    """Read `ENDCAP_*`. Raises ConfigError on an unknown or malformed variable."""
    env = dict(os.environ) if environ is None else environ
    own = {"ENDCAP_PARAMS", "ENDCAP_PROJECT"}
    values: dict[str, Any] = {}
    for key, value in env.items():
        if not key.startswith("ENDCAP_") or key in own or value == "":
            continue
        name = key.removeprefix("ENDCAP_").lower()
        if name not in Settings.model_fields:
            near = difflib.get_close_matches(name, list(Settings.model_fields), n=1)
            hint = f"Did you mean ENDCAP_{near[0].upper()}?" if near else "`endcap env` lists the known ones."
            raise ConfigError("unknown environment variable", field=key, value=value, action=hint)
        values[name] = value
    values["home"] = Path(values.get("home") or project_root() / "var").resolve()
    if "data_dir" in values:
        values["data_dir"] = Path(values["data_dir"]).resolve()
    try:
        partial = Settings.model_validate(values)
    except ValidationError as error:
        bad = error.errors()[0]
        field = f"ENDCAP_{str(bad['loc'][0]).upper()}"
        raise ConfigError(bad["msg"], field=field, value=bad["input"], action="`endcap env` describes it.") from error
    defaults = {
        "event_log_url": f"sqlite:///{partial.home / 'events.db'}",
        "dvc_remote_url": str(partial.paths.dvc_remote),
        "mlflow_url": f"http://127.0.0.1:{partial.mlflow_port}",
        "airflow_url": f"http://127.0.0.1:{partial.airflow_port}",
        "evidently_url": f"http://127.0.0.1:{partial.evidently_port}",
        "serving_url": f"http://127.0.0.1:{partial.serving_port}",
    }
    return partial.model_copy(update={name: value for name, value in defaults.items() if not getattr(partial, name)})
