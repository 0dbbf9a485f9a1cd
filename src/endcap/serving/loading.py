"""From the files of a model version to what answers requests: their digest proved, loaded, warmed up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from endcap.contracts import EventType, ModelVersion
from endcap.errors import RegistryError, ReleaseError
from endcap.models.digest import digest
from endcap.models.history import History
from endcap.ranking.items import ItemTable
from endcap.recommender import Model, Recommender, Request

Load = Callable[[Path], Model]


def load_proved(version: ModelVersion, directory: Path, load: Load | None, repeat_surfaces: Sequence[str]) -> Recommender:
    """The recommender of a version. The first shopper must not wait, and a model that cannot answer must not be taken.

    Raises:
        RegistryError: the files are not those of the version.
        ReleaseError: they are, and cannot be read as a model.
        ValueError: it has nothing to show. A model may raise anything else, too.
    """
    if (found := digest(directory)) != version.digest:
        raise RegistryError(
            "the files are not those that were signed",
            field=f"digest of model {version.version}",
            value=found,
            action=f"Expected {version.digest}. Delete {directory.name} below the models folder to fetch it again.",
        )
    try:
        model = (load or _load_blend)(directory)
    except RegistryError as error:  # the files are those that were signed, and yet no model: not a matter of the digest
        raise ReleaseError(error.problem, field=error.field, action=error.action) from error
    recommender = Recommender(model, read_items(directory, model.item_ids), repeat_surfaces)
    now = datetime.now(UTC)
    known = list(model.item_ids[:3])
    for history in (History.empty(), History(known, [now] * len(known), EventType.PURCHASE.value)):
        if not recommender.recommend(Request(history, now, surface=next(iter(repeat_surfaces), "home"))):
            raise ValueError("the model has nothing to show")
    return recommender


def read_items(directory: Path, item_ids: Sequence[str]) -> ItemTable:
    """The item table of a model directory, in the order in which its model scores."""
    import pyarrow.parquet as pq

    table = pq.read_table(directory / "items.parquet")
    return ItemTable.of(table.to_pylist(), item_ids)


def _load_blend(directory: Path) -> Model:
    import torch

    from endcap.models.model_files import load_model

    torch.set_num_threads(1)  # requests run side by side in threads; more threads each would only get in the way
    return load_model(directory)
