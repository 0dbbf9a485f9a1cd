"""params.yaml and the environment, typed. Only cli, demo, pipeline and serving load it; everybody else is handed a section.

Unknown keys are errors that name the key, its value and the nearest right one. Loading creates nothing and connects to nothing.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from endcap.errors import ConfigError
from endcap.exploring import Policies
from endcap.search_space import Tune, check_space
from endcap.sections import (
    Adapt,
    Behaviour,
    Canary,
    Count,
    Encode,
    Evaluate,
    Gates,
    Ingest,
    Monitoring,
    Newcomers,
    Prepare,
    Section,
    Serving,
    Shop,
    Train,
)


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
    newcomers: Newcomers = Newcomers()
    evaluate: Evaluate
    gates: Gates
    canary: Canary | None = None  # code trees from before it have no such section
    serving: Serving
    policies: Policies = Policies()  # code trees from before it have no such section
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
        raw = yaml.load(path.read_text(encoding="utf-8"), UniqueKeys)
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


class UniqueKeys(yaml.SafeLoader):
    """Refuses a key that is there twice: YAML lets the last of two equal keys win without a word."""

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
    errors = error.errors()  # a misspelt key is also a missing one: what is there names it best
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
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
        parts = [part for part in typing.get_args(annotation) if isinstance(part, type) and issubclass(part, BaseModel)]
        model = (
            parts[0] if parts else annotation
        )  # dict[str, Dimension], tuple[Step, ...]: their key is skipped in the next round
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
        self.policies = root / "policies"  # versions of what policies have learnt
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
    rules: Path | None = Field(None, description="File with the rules of the shelf (examples/rules.yaml); unset: no rules.")
    storefront: bool = Field(True, description="Whether the service has the page /shop, whose visitors' events are real.")
    shop_shoppers: str = Field(
        "", description="Ids of shoppers that /shop lists with what they bought, by commas; unset: none."
    )
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
    api_keys: Literal["auto", "required", "off"] = Field(
        "auto", description="Who must show an API key. auto: everybody, once a key exists or another machine can reach us."
    )
    redis_url: str = Field("", description="Redis that counts calls for all service processes; unset: each counts its own.")
    service_key: str = Field("", description="API key that the demo's shop front shows to the service, where it asks for one.")
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
    for name in {"data_dir", "rules"} & set(values):
        values[name] = Path(values[name]).resolve()
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
