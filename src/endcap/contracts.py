"""The records that cross a boundary, and the names of their columns, once.

Here belong schemas and small frozen records. Not here: how they are read, checked or stored.
Schemas are pyarrow schemas built on first use, so that importing this module stays cheap (Airflow parses DAG files often).
"""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


class EventType(StrEnum):
    """What a shopper did. A return is a `purchase` with a negative quantity."""

    IMPRESSION = "impression"
    VIEW = "view"
    CLICK = "click"
    CART = "cart"
    PURCHASE = "purchase"
    RATING = "rating"
    DISMISS = "dismiss"
    SEARCH = "search"


class Surface(StrEnum):
    """Where in the shop a slate is shown. `params.yaml: serving.repeat_surfaces` says which may repeat past purchases."""

    HOME = "home"
    PRODUCT = "product"
    BASKET = "basket"
    EMAIL = "email"


class Role(StrEnum):
    """What an API key may do (docs/security.md)."""

    SHOP = "shop"  # slates, events, related items, search
    READER = "reader"  # look: model, metrics, pages
    OPERATOR = "operator"  # all of it, and administration


class ModelKind(StrEnum):
    """How a model version came to be."""

    FULL = "full"
    INCREMENTAL = "incremental"


MODEL_NAME = "endcap-recommender"
CHAMPION = "champion"
CANARY = "canary"  # the alias of the candidate that answers part of the shoppers

# What every single row must keep to: the service's door and the suites in `expectations/` both go by these.
FIRST_TIME = datetime(1995, 1, 1, tzinfo=UTC)  # no shop is older: an earlier time is of a wrong unit or zone
MAX_QUANTITY = 1_000_000.0  # of one event, either way
MAX_ID = 128  # characters of an id: what every database can index
MAX_COUNTRY = 64  # characters
UNSTORABLE = r"[\x00-\x1f\x7f]"  # characters that no id or name holds; a regular expression for Python and RE2


@functools.cache
def event_schema() -> pa.Schema:
    """An event as it arrives: `user_id` a pseudonym (null: the shop did not know), `time` in UTC, `price` in shop currency."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("event_id", pa.string(), nullable=False),
            pa.field("type", pa.string(), nullable=False),
            pa.field("user_id", pa.string()),
            pa.field("item_id", pa.string(), nullable=False),
            pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field("quantity", pa.float64()),
            pa.field("price", pa.float64()),
            pa.field("request_id", pa.string()),
            pa.field("surface", pa.string()),
            pa.field("country", pa.string()),
        ]
    )


@functools.cache
def dataset_event_schema() -> pa.Schema:
    """A cleaned event inside a dataset version: `user_id` known; `cancelled_at`: when a purchase was undone in full, else null.

    A feature as of T may use a purchase unless `cancelled_at <= T`: a later return was not known then.
    """
    import pyarrow as pa

    fields = [f.with_nullable(False) if f.name == "user_id" else f for f in event_schema()]
    return pa.schema([*fields, pa.field("cancelled_at", pa.timestamp("us", tz="UTC"))])


@functools.cache
def catalog_schema() -> pa.Schema:
    """One row an item. `available_from` is when the shop first listed it: a split in time hides items not yet listed."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("item_id", pa.string(), nullable=False),
            pa.field("title", pa.string(), nullable=False),
            pa.field("description", pa.string()),
            pa.field("brand", pa.string()),
            pa.field("category", pa.string()),
            pa.field("price", pa.float64()),
            pa.field("available_from", pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field("updated_at", pa.timestamp("us", tz="UTC"), nullable=False),
        ]
    )


@functools.cache
def exposure_schema() -> pa.Schema:
    """One row a shown item: written by `serving/exposure_log.py`, read by `data/events.py`, by days in versions."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("request_id", pa.string(), nullable=False),
            pa.field("user_id", pa.string()),
            pa.field("surface", pa.string(), nullable=False),
            pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field("item_id", pa.string(), nullable=False),
            pa.field("rank", pa.int32(), nullable=False),
            pa.field("score", pa.float64(), nullable=False),
            pa.field("propensity", pa.float64(), nullable=False),
            pa.field("policy", pa.string(), nullable=False),
            pa.field("model_version", pa.string(), nullable=False),
            pa.field("fallback", pa.bool_(), nullable=False),
        ]
    )


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One expectation or gate that was tried."""

    name: str
    passed: bool
    blocking: bool
    observed: str
    expected: str


@dataclass(frozen=True, slots=True)
class DatasetVersion:
    """The card of a dataset version, stored as `dataset.json` beside its DVC pointer and readable without pulling the data."""

    version: str  # dataset-<n>; also the git tag
    created_at: datetime
    parent: str | None
    batch_id: str
    interval_start: datetime  # of the event times that this version added
    interval_end: datetime  # exclusive; the moment as of which the version speaks
    events: int
    users: int
    items: int
    added_events: int
    digest: str  # DVC's hash of the directory
    code_commit: str
    exposures: int = 0  # shown items, of all days; what cards from before have none of
    cleaning: dict[str, int] = field(default_factory=dict)  # rule → rows it touched
    validation: dict[str, Any] = field(default_factory=dict)  # passed, warnings, report (path below reports/)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version in the registry with the lineage that its tags carry."""

    version: str  # MLflow's number, as text
    kind: str
    dataset_version: str
    code_commit: str
    params_hash: str
    digest: str  # sha256 of the model directory
    run_id: str  # MLflow's run
    parent_version: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
