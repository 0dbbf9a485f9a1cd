"""The recommender as MLflow serves it: models-from-code, so this file itself is logged and nothing is pickled.

It runs in a clean process that has mlflow, torch and safetensors but no Endcap: the code it needs travels with the model.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

if TYPE_CHECKING:
    from mlflow.pyfunc.model import PythonModelContext


class ServedRecommender(PythonModel):
    """One row a shopper: what they did, oldest first, in; the best `k` items with their scores out."""

    def load_context(self, context: PythonModelContext) -> None:
        from endcap.models.model_files import load_model

        self.recommender = load_model(Path(context.artifacts["model"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """Lists of one length in the column `item_ids` and, where wanted, `times` (ISO 8601), `types`, `quantities`, `prices`
        (of one piece), `surfaces` and `countries`.

        Parameters: `k` (items to answer), `now` (ISO 8601; empty: the present) and `surface` (of the slate; empty: not told).
        Returns the columns `item_ids` (lists of k) and `scores`.
        """
        params = params or {}
        k = int(params.get("k") or 10)
        now = _time(str(params["now"])) if params.get("now") else datetime.now(UTC)
        histories = [_history(row, now) for row in model_input.to_dict("records")]
        scores_BI = self.recommender.score(histories, now, str(params.get("surface") or ""))
        scores_BI = np.where(self._listed(now), scores_BI, -np.inf)
        item_ids = np.asarray(self.recommender.item_ids, dtype=object)
        best_BK = [
            row[np.isfinite(scores[row])][:k]
            for scores, row in zip(scores_BI, np.argsort(-scores_BI, axis=1, kind="stable"), strict=True)
        ]
        return pd.DataFrame(
            {
                "item_ids": [[str(item) for item in item_ids[best]] for best in best_BK],
                "scores": [[float(score) for score in row[best]] for row, best in zip(scores_BI, best_BK, strict=True)],
            }
        )

    def _listed(self, now: datetime) -> Any:
        """(I,) false where the shop lists the item later."""
        items = self.recommender.items
        if "available_from" not in items:
            return np.ones(len(items), np.bool_)
        return ~(pd.to_datetime(items["available_from"], utc=True) > pd.Timestamp(now)).to_numpy()


def _history(row: dict[Any, Any], now: datetime) -> Any:
    from endcap.models.history import History

    items = [str(item) for item in _list(row.get("item_ids"))]
    times = [_time(str(text)) for text in _list(row.get("times"))] or [now] * len(items)
    types = [str(kind) for kind in _list(row.get("types"))] or ["purchase"] * len(items)
    quantities = [float(number) for number in _list(row.get("quantities"))] or [1.0] * len(items)
    prices = [float(number) for number in _list(row.get("prices"))] or [np.nan] * len(items)
    surfaces = [str(name or "") for name in _list(row.get("surfaces"))] or [""] * len(items)
    countries = [str(name or "") for name in _list(row.get("countries"))] or [""] * len(items)
    columns: dict[str, list[Any]] = {
        "times": times,
        "types": types,
        "quantities": quantities,
        "prices": prices,
        "surfaces": surfaces,
        "countries": countries,
    }
    for name, values in columns.items():
        if len(values) != len(items):
            raise ValueError(
                f"{name}: got {len(values)} values for {len(items)} item_ids. Give one for each item or leave the column out."
            )
    return History(items, **columns)


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple, np.ndarray)) else []


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


set_model(ServedRecommender())
