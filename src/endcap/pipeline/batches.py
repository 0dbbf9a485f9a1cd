"""A batch on disk: one folder that moves from landing to batches and, if it is rejected, to quarantine.

    batch.json        source, interval, rows; written last, so a folder without it is half made and is made again
    events.parquet    contract columns; raw.parquet instead when the contract's schema could not be met, with problems.json
    catalog.parquet   optional
    validation.json   clean.parquet   cancelled.parquet   clean_catalog.parquet   cleaning.json   as the steps add them

Every file is written beside its place and renamed into it.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.config import Home
from endcap.errors import BatchRejected, InputError

if TYPE_CHECKING:
    import pyarrow as pa


class Batch:
    """The folder of one batch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.batch_id = folder.name

    @property
    def complete(self) -> bool:
        return (self.folder / "batch.json").exists()

    @property
    def interval(self) -> tuple[datetime, datetime]:
        card = self.read_json("batch.json")
        return datetime.fromisoformat(card["interval_start"]), datetime.fromisoformat(card["interval_end"])

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    def read_json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def write_json(self, name: str, value: Any) -> None:
        with self._replacing(name) as draft:
            draft.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def read_table(self, name: str) -> pa.Table | None:
        """The Parquet file, or None if the batch has none of that name."""
        import pyarrow.parquet as pq

        path = self.folder / name
        return pq.read_table(path, partitioning=None) if path.exists() else None

    def write_table(self, name: str, table: pa.Table) -> None:
        import pyarrow.parquet as pq

        with self._replacing(name) as draft:
            pq.write_table(table, draft, compression="zstd")

    def events(self) -> pa.Table | None:
        """The batch's events as good as they could be read; None for a batch of catalogue alone."""
        return self.read_table("events.parquet" if self.has("events.parquet") else "raw.parquet")

    @contextmanager
    def _replacing(self, name: str) -> Iterator[Path]:
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f".{name}.{uuid.uuid4().hex}"
        try:
            yield draft
            with draft.open("rb") as file:
                os.fsync(file.fileno())
            draft.replace(self.folder / name)
        except OSError as error:
            action = "Make room or check the mode; nothing was half written."
            raise InputError(f"cannot be written ({error.strerror})", field=str(self.folder / name), action=action) from error
        finally:
            draft.unlink(missing_ok=True)


def find_batch(home: Home, batch_id: str) -> Batch:
    """The batch in work.

    Raises:
        BatchRejected: it lies in quarantine.
        InputError: nobody collected it.
    """
    if quarantined(home, batch_id):
        raise rejection(home, batch_id)
    batch = Batch(home.batches / batch_id)
    if not batch.complete:
        raise InputError("no such batch", field="batch_id", value=batch_id, action="Run collect_batch first.")
    return batch


def code_pattern(home: Home, batch: Batch, default: str | None) -> str | None:
    """What proper item codes look like: as the batch's own delivery says, else as the shop last said, else the default."""
    own: str | None = batch.read_json("batch.json").get("code_pattern")
    if own is not None:
        return own
    shop = Batch(home.root / "shop")
    remembered: str | None = shop.read_json("settings.json")["code_pattern"] if shop.has("settings.json") else None
    return remembered if remembered is not None else default


def remember_code_pattern(home: Home, batch: Batch) -> None:
    """Keep the pattern of an accepted delivery for the shop's later batches that come without one."""
    own: str | None = batch.read_json("batch.json").get("code_pattern")
    if own is not None:
        Batch(home.root / "shop").write_json("settings.json", {"code_pattern": own})


def quarantined(home: Home, batch_id: str) -> bool:
    return (home.quarantine / batch_id / "reason.json").exists()


def rejection(home: Home, batch_id: str) -> BatchRejected:
    """The error that says why a batch lies in quarantine."""
    reason = Batch(home.quarantine / batch_id).read_json("reason.json")
    listed = "\n".join(f"  {number}. {text}" for number, text in enumerate(reason["reasons"], start=1))
    problem = f"rejected whole, for {len(reason['reasons'])} reasons:\n{listed}\n"
    return BatchRejected(
        problem, field=batch_id, action=f"Report: {reason['report_url']}; then `endcap quarantine show {batch_id}`."
    )
