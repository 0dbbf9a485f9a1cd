"""Requests and answers of the HTTP contract, version 1, as the API page shows them.

Not here: what an event must satisfy beyond its schema (event_intake.py).
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from endcap.contracts import MAX_COUNTRY, MAX_ID, UNSTORABLE, EventType, Surface

_UNSTORABLE = re.compile(rf"{UNSTORABLE}|[\ud800-\udfff]")


def _textual(value: Any) -> Any:
    if not isinstance(value, str | datetime):
        raise ValueError("must be text such as 2026-11-07T10:00:00Z")
    return value


def _numeric(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


def _storable(text: str) -> str:
    if _UNSTORABLE.search(text):
        raise ValueError("holds characters that cannot be stored (control characters or lone surrogates)")
    return text


def _not_blank(text: str) -> str:
    if text.isspace():
        raise ValueError("is blank")
    return text


Moment = Annotated[AwareDatetime, BeforeValidator(_textual)]
_PLAIN = r"[^\u0000-\u001f\u007f]"  # the same rules for readers of the API page: ECMA's regular expressions
_AS_TEXT = Field(json_schema_extra={"pattern": f"^{_PLAIN}*$"})
_AS_NAME = Field(json_schema_extra={"pattern": rf"^{_PLAIN}*[^\s\u0000-\u001f\u007f]{_PLAIN}*$"})
_NAMED = (AfterValidator(_storable), AfterValidator(_not_blank), _AS_NAME)
Text = Annotated[str, AfterValidator(_storable), _AS_TEXT]
Identifier = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID), *_NAMED]
RawUserId = Annotated[str, StringConstraints(min_length=1, max_length=256), *_NAMED]
Country = Annotated[str, StringConstraints(max_length=MAX_COUNTRY), AfterValidator(_storable), _AS_TEXT]
_NUMBER = BeforeValidator(_numeric)  # stands last, so that bounds are still the type's own
Many = Annotated[int, Field(ge=1), _NUMBER]
Share = Annotated[float, Field(ge=0, le=1), _NUMBER]
Amount = Annotated[float, Field(allow_inf_nan=False), _NUMBER]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False), _NUMBER]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SessionEvent(_Body):
    """Something the shopper did just now, perhaps not yet sent to /v1/events. It counts at once."""

    item_id: Identifier = Field(examples=["84077"])
    type: EventType = Field(EventType.VIEW, description="What they did; `dismiss` hides the item.")
    time: Moment | None = Field(None, description="When; default: the time of the request.")


class Context(_Body):
    """Where and when the slate is shown."""

    time: Moment | None = Field(
        None,
        description="The moment the request speaks of; default: now. A replay of history gives its own: only what was known "
        "then counts, and the exposure is logged with this time. From 1995 on, and not in the future.",
        examples=["2026-11-07T10:00:00Z"],
    )
    item_id: Identifier | None = Field(None, description="The product on the page: it counts as viewed and is not shown again.")


class ShelfFilters(_Body):
    """What the shopper narrowed the shelf to."""

    categories: list[Text] = Field([], max_length=100, description="Only these categories; empty: all.")
    brands: list[Text] = Field([], max_length=100, description="Only these brands; empty: all.")
    price_min: Price | None = Field(None, description="Lowest price, shop currency, included.")
    price_max: Price | None = Field(None, description="Highest price, shop currency, included.", examples=[20.0])


class RecommendationRequest(_Body):
    """Who asks, where on the page, and for how much."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_id": "17850", "surface": "home", "k": 10, "explain": True},
                {"surface": "product", "k": 5, "context": {"item_id": "84077"}, "filters": {"price_max": 20.0}},
            ]
        }
    )

    user_id: RawUserId | None = Field(
        None, description="The shop's own id of the shopper; stored only as a pseudonym. Leave out for a stranger."
    )
    surface: Surface = Field(Surface.HOME, description="Where the slate stands. Some surfaces may repeat past purchases.")
    k: Many = Field(10, description="How many items, at most `serving.max_k` (100 by default).")
    session: list[SessionEvent] = Field([], max_length=200, description="What the shopper did in this session, oldest first.")
    context: Context = Context()
    filters: ShelfFilters = ShelfFilters()
    diversity: Share = Field(0.0, description="0: best first; towards 1: more variety.")
    explain: bool = Field(False, description="Give reasons for each item.")


class ShownReason(BaseModel):
    """Why an item is shown, in words for the shopper and as data."""

    kind: str = Field(
        description="pinned or promoted (by a rule of the shop); repeat, together, similar, popular or taste",
        examples=["repeat"],
    )
    text: str = Field(examples=["You bought this 4 times"])
    item_id: str | None = Field(None, description="The item that the reason refers to.")


class ShownItem(BaseModel):
    """One place of the slate."""

    item_id: str = Field(examples=["84077"])
    rank: int = Field(description="1 is first.", examples=[1])
    score: float = Field(description="The model's score; comparable within this answer only.", examples=[2.31])
    propensity: float = Field(
        description="Probability with which the item came to stand here, given what stands above.", examples=[1.0]
    )
    reasons: list[ShownReason] | None = Field(None, description="Only when asked for with `explain`.")


class RecommendationAnswer(BaseModel):
    """A slate. Send `request_id` back with the events it leads to, so that the shop learns what worked."""

    request_id: str = Field(examples=["req-6f1c2f0e8f4b4d8d9f3a5f0c1b2a3d4e"])
    model_version: str | None = Field(description="The model that answered; null when none could.", examples=["3"])
    arm: str | None = Field(
        None, description="During a canary: whom the shopper was meant for, candidate or champion.", examples=["candidate"]
    )
    policy: str = Field(
        description="How places were filled: greedy, uniform, or name and version of a policy that explores.",
        examples=["greedy"],
    )
    fallback: bool = Field(description="True when this answer is worse than it should be; `fallback_reason` says why.")
    fallback_reason: str | None = Field(
        None, description="no_model, model_failed, candidate_failed, candidate_empty, event_log_away or exposures_late"
    )
    items: list[ShownItem]


class Event(_Body):
    """Something a shopper did. The `event_id` makes sending twice harmless."""

    event_id: Identifier = Field(description="Unique; the same id again counts as a duplicate.", examples=["536365-1"])
    type: EventType = Field(description="What happened. A return is a purchase with a negative quantity.")
    user_id: RawUserId | None = Field(
        None, description="The shop's own id; stored only as a pseudonym. Null when unknown.", examples=["17850"]
    )
    item_id: Identifier = Field(examples=["84077"])
    time: Moment = Field(
        description="When it happened, with its zone. From 1995 on, and not in the future.", examples=["2026-11-07T10:00:00Z"]
    )
    quantity: Amount | None = Field(
        None,
        description="Pieces; default 1 for a purchase, which is never of 0. Between -1,000,000 and 1,000,000.",
        examples=[2],
    )
    price: Price | None = Field(
        None,
        description="Of one piece, in shop currency, at most `ingest.max_price`. A purchase or return must have one.",
        examples=[0.29],
    )
    request_id: Identifier | None = Field(None, description="The answer that led to it.")
    surface: Surface | None = Field(None, description="Where it happened.")
    country: Country | None = Field(None, examples=["United Kingdom"])


class RejectedEvent(BaseModel):
    """An event that was not stored."""

    index: int = Field(description="Its place in the call, from 0.")
    reason: str = Field(examples=["price: input should be a finite number; got nan."])


class EventsAnswer(BaseModel):
    """What became of the events. Accepted ones are on disk before this answer is sent."""

    accepted: int = Field(examples=[998])
    duplicates: int = Field(description="Known by their event_id; stored once.", examples=[1])
    rejected: list[RejectedEvent]


class Refusal(BaseModel):
    """Why a champion was not taken."""

    model_version: str
    reason: str
    time: datetime


class ModelState(BaseModel):
    """What serves, and what was refused."""

    model_version: str | None = Field(description="The version that answers; null while the service falls back.")
    dataset_version: str | None = None
    kind: str | None = Field(None, description="full or incremental")
    code_commit: str | None = None
    digest: str | None = Field(None, description="sha256 of the model directory.")
    approved_by: str | None = Field(None, description="From the verified promotion record.")
    items: int | None = Field(None, description="Items the model can show.")
    loaded_at: datetime | None = None
    source: str | None = Field(None, description="registry, or disk while the registry was away at start")
    registry_up: bool = Field(description="Whether MLflow answered last time.")
    refused: Refusal | None = Field(None, description="The champion that was last refused, until another is taken.")


class Health(BaseModel):
    """The process is up."""

    status: str = Field(examples=["ok"])


class Readiness(BaseModel):
    """What the service can do now."""

    ready: bool
    model_version: str | None
    event_log: bool
    canary: str | None = Field(None, description="The canary that is open, in words.")
    degraded: list[str] = Field(description="What is worse than it should be; empty when all is well.")
