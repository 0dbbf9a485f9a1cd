"""Dataset versions: DVC holds the files, a bare git repository the cards, and the tag `dataset-<n>` is the moment one exists.

    home.datasets (bare)   tag dataset-<n> → {dataset.dvc (pointer), dataset.json (card), .dvc/config}
    home.dvc_cache         the files, by content; checkouts are links to them
    the remote             the same files, elsewhere

Not here: what goes into a version (pipeline/ingest.py), how events lie on disk (partitions.py).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from endcap.config import Home
from endcap.contracts import DatasetVersion
from endcap.data.dvc_store import DvcStore, digest_of
from endcap.data.git import BareRepository
from endcap.data.locks import scratch
from endcap.errors import DatasetError
from endcap.progress import Progress, silent

CARD = "dataset.json"
_POINTER = "dataset.dvc"
_OWN = ("version", "created_at", "parent", "batch_id", "digest", "code_commit")  # fields that only commit() can know
_TIMES = ("created_at", "interval_start", "interval_end")


class DatasetRepository:
    """All dataset versions of a home. Nothing is made before the first commit; any number of processes may commit at once."""

    def __init__(self, home: Home, remote_url: str, code_commit: str = "") -> None:
        self._home, self._code_commit = home, code_commit
        self._git = BareRepository(home.datasets)
        self._store = DvcStore(home, remote_url)

    def versions(self) -> list[DatasetVersion]:
        """Every version, oldest first."""
        tags = self._git.tags("dataset-*")
        cards = self._git.read([f"{tag}:{CARD}" for tag in tags])
        return [read_card(card) for card in cards if card is not None]

    def latest(self) -> DatasetVersion:
        """The newest version.

        Raises:
            DatasetError: there is none.
        """
        return self.get("latest")

    def get(self, version: str) -> DatasetVersion:
        """The card of `dataset-<n>`, `<n>` or `latest`, read without touching the data.

        Raises:
            DatasetError: there is no such version.
        """
        found = self.versions()
        wanted = f"dataset-{version}" if version.isdigit() else version
        for one in reversed(found):
            if wanted in ("latest", one.version):
                return one
        known = (
            f"Known: {found[0].version} … {found[-1].version}."
            if found
            else "There is none yet: run `endcap ingest` or the DAG ingest_events."
        )
        raise DatasetError("no such dataset version", field="dataset_version", value=version, action=known)

    def checkout(self, version: str, target: Path, *, links: bool = True) -> DatasetVersion:
        """Make `target` exactly this version: `events/date=…/part.parquet`, `catalog.parquet`, `dataset.json`, and
        `exposures/date=…/part.parquet` where the service has shown anything.

        The files are read-only links into the shared cache, or copies with `links=False`. What was at `target` is replaced.

        Raises:
            DatasetError: no such version, or its files are lost.
            ServiceUnavailable: the cache lacks files and the remote does not answer.
        """
        card = self.get(version)
        with scratch(self._home.root / "scratch") as folder:
            self._fill(card, folder / "dataset", links=links)
            (folder / "dataset" / CARD).write_text(dump_card(card), encoding="utf-8")
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                shutil.move(target, folder / "replaced")
            shutil.move(folder / "dataset", target)
        return card

    def commit(
        self,
        batch_id: str,
        write: Callable[[Path], Mapping[str, Any]],
        step: Progress = silent,
    ) -> DatasetVersion:
        """Make the next version from what `write` does to a folder that holds the newest one. Takes effect whole or not at all.

        `write(folder)` may replace, add and delete files (never edit one in place: they are links into the cache) and returns
        the card's fields: interval_start, interval_end, events, users, items, added_events, and if wanted exposures, cleaning
        and validation. It is called again on top of the other version when another run committed first, so it must depend on
        its folder alone.
        A batch that is in a version already gives that version back. `step` hears the name of each step when it is done.

        Raises:
            DatasetError: `write` edited in place, returned wrong fields, or the disk is full.
            ServiceUnavailable: the DVC remote does not take the files.
        """
        self._git.create()
        while True:
            known = self.versions()
            if same := [one for one in known if one.batch_id == batch_id]:
                return same[0]
            parent = known[-1] if known else None
            with scratch(self._home.root / "scratch") as folder:
                card = self._build(folder / "dataset", batch_id, parent, write, step)
                if self._publish(card, (folder / _POINTER).read_bytes(), step):
                    return card

    def push(self, version: str) -> DatasetVersion:
        """Copy a version's files to the remote again, after the remote was replaced.

        Raises:
            ServiceUnavailable: the remote does not take them.
        """
        card = self.get(version)
        with scratch(self._home.root / "scratch") as folder:
            self._fill(card, folder / "dataset")
            self._store.push(folder / "dataset")
        return card

    def _build(
        self,
        folder: Path,
        batch_id: str,
        parent: DatasetVersion | None,
        write: Callable[[Path], Mapping[str, Any]],
        step: Progress,
    ) -> DatasetVersion:
        if parent:
            self._fill(parent, folder)
        folder.mkdir(exist_ok=True)
        step("checked out")
        with self._guarded(folder):
            told = dict(write(folder))
        step("written")
        pointer = self._store.add(folder)
        step("added")
        self._store.push(folder)
        step("pushed")
        number = int(parent.version.removeprefix("dataset-")) + 1 if parent else 1
        own = {
            "version": f"dataset-{number}",
            "created_at": datetime.now(UTC),
            "parent": parent.version if parent else None,
            "batch_id": batch_id,
            "digest": digest_of(pointer),
            "code_commit": self._code_commit,
        }
        return _card(told, own)

    def _publish(self, card: DatasetVersion, pointer: bytes, step: Progress) -> bool:
        config = f"[core]\n    remote = storage\n['remote \"storage\"']\n    url = {self._store.remote_url}\n"
        files = {_POINTER: pointer, CARD: dump_card(card).encode(), ".dvc/config": config.encode(), ".gitignore": b"/dataset\n"}
        commit = self._git.write_commit(
            self._git.write_tree(files),
            [card.parent] if card.parent else [],
            f"{card.version}: {card.added_events:+,} events of {card.batch_id}",
        )
        step("recorded")
        published = self._git.claim_tag(card.version, commit, "main")
        step("published")
        return published

    def _fill(self, card: DatasetVersion, folder: Path, *, links: bool = True) -> None:
        (pointer,) = self._git.read([f"{card.version}:{_POINTER}"])
        if pointer is None:
            raise DatasetError(
                "has no pointer file", field=card.version, action=f"Restore {self._home.datasets} from its backup."
            )
        self._store.fetch(pointer, folder, links=links)

    @contextmanager
    def _guarded(self, folder: Path) -> Iterator[None]:
        """Notice a file that was written through its link into the cache, and drop that broken object from the cache."""
        before, edited = _stamps(folder), {}
        try:
            yield
        finally:
            after = _stamps(folder)
            edited = {inode: path for inode, (stamp, path) in after.items() if before.get(inode, (stamp,))[0] != stamp}
            if edited:
                self._store.forget(set(edited))
        if edited:
            action = "Write a new file beside it and os.replace() it."
            raise DatasetError("was edited in place", field=str(min(edited.values())), action=action)


def read_card(text: bytes | str) -> DatasetVersion:
    """The card in the text of a `dataset.json`."""
    values = json.loads(text)
    return DatasetVersion(**{**values, **{name: datetime.fromisoformat(values[name]) for name in _TIMES}})


def dump_card(card: DatasetVersion) -> str:
    """A card as the text of `dataset.json`; times as ISO 8601."""
    values = card.to_json()
    return json.dumps({**values, **{name: values[name].isoformat() for name in _TIMES}}, indent=2, sort_keys=True) + "\n"


def _card(told: Mapping[str, Any], own: Mapping[str, Any]) -> DatasetVersion:
    names = [field.name for field in fields(DatasetVersion) if field.name not in _OWN]
    optional = ("exposures", "cleaning", "validation")
    wrong = [name for name in told if name not in names] + [name for name in names if name not in told and name not in optional]
    if wrong:
        raise DatasetError(
            "card has unknown or missing fields", field=", ".join(wrong), action=f"write() returns {', '.join(names)}."
        )
    times = {name: datetime.fromisoformat(str(told[name])) for name in _TIMES if name in told}
    if naive := [name for name, value in times.items() if value.tzinfo is None]:
        raise DatasetError("has no time zone", field=naive[0], value=str(told[naive[0]]), action="Use UTC.")
    return DatasetVersion(**{**told, **times, **own})


def _stamps(folder: Path) -> dict[int, tuple[tuple[int, int], Path]]:
    """inode → ((mtime in ns, bytes), path) of every file."""
    found = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            status = path.stat()
            found[status.st_ino] = ((status.st_mtime_ns, status.st_size), path)
    return found
