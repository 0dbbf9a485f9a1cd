"""What the page /shop needs beside the public API: shoppers that the operator names, titles of items, and what was logged.

Shoppers are asked for by their raw ids, as by a shop's front end, and nothing here gives an id or a pseudonym away that was not
given. Not here: slates and events, which the page asks of /v1 like any other front end.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from endcap.config import Settings
from endcap.contracts import EventType
from endcap.data.events import EventLog
from endcap.data.privacy import pseudonymise
from endcap.data.versions import DatasetRepository
from endcap.errors import ConfigError, EndcapError
from endcap.ranking.items import ItemTable
from endcap.release.lineage import approval, gates, origin
from endcap.release.registry import Registry
from endcap.release.signing import Keys
from endcap.serving.answers import NO_MODEL
from endcap.serving.fallback import Fallback
from endcap.serving.log_watch import LogWatch
from endcap.serving.model_store import ModelStore

Json = dict[str, Any]
MOST_SHOPPERS = 20
_HISTORY = 500  # newest events of a named shopper that are looked through
_BOUGHT = 5  # items that are told of each


class Storefront:
    """Every method blocks: call it from a thread.

    Raises:
        ConfigError: more shoppers are named than the page lists.
    """

    def __init__(
        self, settings: Settings, event_log: EventLog, watch: LogWatch, models: ModelStore, popular: Fallback, key: bytes
    ) -> None:
        self._settings, self._event_log, self._watch = settings, event_log, watch
        self._models, self._popular, self._key = models, popular, key
        self._named = list(dict.fromkeys(name.strip() for name in settings.shop_shoppers.split(",") if name.strip()))
        if len(self._named) > MOST_SHOPPERS:
            action = f"Name at most {MOST_SHOPPERS}; on the page any other id can be typed in."
            raise ConfigError("names too many", field="ENDCAP_SHOP_SHOPPERS", value=len(self._named), action=action)
        self._cards: dict[str, Json] = {}  # of dataset versions, which never change

    def start(self) -> Json:
        """The clock of the service, which events must not be ahead of, and the named shoppers with what they bought."""
        self._watch.require()
        shoppers = [{"user_id": name, "bought": self._bought(name)} for name in self._named]
        return {"now": datetime.now(UTC).isoformat(timespec="milliseconds"), "shoppers": shoppers}

    def items(self, item_ids: Sequence[str]) -> list[Json]:
        """Title, category and price of items, in the order asked; an unknown one has its id as its title."""
        table = self._table()
        return [_item(table, item_id) for item_id in item_ids]

    def logged(self, request_id: str) -> Json | None:
        """A slate as its exposures say it was shown, without the shopper, and where it came from; None: not in the log."""
        self._watch.require()
        rows = self._event_log.request(request_id)
        if not rows:
            return None
        table, first = self._table(), rows[0]
        kept = ("rank", "item_id", "score", "propensity", "policy", "model_version", "fallback")
        places = [{**{key: row[key] for key in kept}, "title": _item(table, row["item_id"])["title"]} for row in rows]
        lineage = self._lineage(first["model_version"])
        return {
            "request_id": request_id,
            "time": first["time"].isoformat(),
            "surface": first["surface"],
            "policy": ", ".join(dict.fromkeys(row["policy"] for row in rows)),
            "model_version": first["model_version"],
            "fallback": first["fallback"],
            "dataset_version": lineage.get("dataset", {}).get("version"),
            "places": places,
            "links": self._links(first["model_version"]),
            "lineage": lineage,
        }

    def _table(self) -> ItemTable:
        served = self._models.current
        return (served.recommender if served else self._popular.recommender(datetime.now(UTC))).items

    def _bought(self, name: str) -> list[Json]:
        """What a shopper bought most often, the latest first among equals."""
        events = self._event_log.history(pseudonymise(name, self._key), _HISTORY)
        kept = (e["item_id"] for e in reversed(events) if e["type"] == EventType.PURCHASE and (e["quantity"] or 1) > 0)
        table = self._table()
        return [{**_item(table, item), "times": times} for item, times in Counter(kept).most_common(_BOUGHT)]

    def _lineage(self, model_version: str) -> Json:
        """The chain of the serving model, from its tags and the card of its data set."""
        if model_version == NO_MODEL:
            return {"model": {"missing": "this answer was a fallback: no model chose it"}}
        served = self._models.current
        if served is None or served.version.version != model_version:
            return {"model": {"missing": f"model {model_version} does not serve here now: `endcap lineage {model_version}`"}}
        version, keys = served.version, Keys.load(self._settings.paths.secrets)
        return {
            **origin(version, Registry(self._settings.mlflow_url).page(version.version)),
            "parent": version.parent_version or "none: trained in full",
            "gates": gates(version, keys),
            "approval": approval(version, keys),
            "dataset": self._card(version.dataset_version),
        }

    def _card(self, dataset_version: str) -> Json:
        if dataset_version not in self._cards:
            repository = DatasetRepository(self._settings.paths, self._settings.dvc_remote_url)
            try:
                card = repository.get(dataset_version).to_json()
            except EndcapError as error:  # it may lie on another machine
                return {"version": dataset_version, "missing": str(error)}
            self._cards[dataset_version] = json.loads(json.dumps(card, default=str))
        return self._cards[dataset_version]

    def _links(self, model_version: str) -> list[Json]:
        """name, text and url; without a url the text says what is known."""
        if model_version == NO_MODEL:
            return [{"name": "Registered model", "text": "none: a fallback", "url": None}]
        page = Registry(self._settings.mlflow_url).page(model_version)
        links = [{"name": "Registered model", "text": f"version {model_version} in MLflow", "url": page}]
        check = self._newest_check(model_version)
        if check is None:
            return [*links, {"name": "Drift", "text": f"no check of model {model_version} is known here", "url": None}]
        says = "drifted" if check.get("drifted") else "has not drifted"
        about = f"{check['dataset_version']} {says}"
        report = {"name": "Drift report", "text": about, "url": check.get("report_url") or None}
        return [*links, report, {"name": "Evidently", "text": "the same over time", "url": check.get("ui_url") or None}]

    def _newest_check(self, model_version: str) -> Json | None:
        """The last drift check of a model, as monitor_models left it beside its report."""
        files = (self._settings.paths.reports / "drift").glob("*/check.json")
        checks = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        mine = [check for check in checks if check["model_version"] == model_version]
        return max(mine, key=lambda check: check["date"], default=None)


def _item(table: ItemTable, item_id: str) -> Json:
    place = table.index.get(item_id)
    if place is None:
        return {"item_id": item_id, "title": item_id, "category": "", "price": None}
    price = float(table.prices[place])
    category = str(table.categories[place])
    known = None if math.isnan(price) else price
    return {"item_id": item_id, "title": table.titles[place], "category": category, "price": known}
