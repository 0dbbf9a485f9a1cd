"""Vectors kept by the hash of their content, in one SQLite file: adding some costs what they are, not what is there already.

Several processes may read and write at once. A file that is torn or foreign is thrown away and made anew.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from endcap.errors import ConfigError

Floats = npt.NDArray[np.float32]
logger = logging.getLogger(__name__)
WAIT_SECONDS = 60.0  # for another process that writes
ASKED_AT_ONCE = 500  # below SQLite's limit of variables in every build
TABLE = "CREATE TABLE IF NOT EXISTS vectors (hash BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID"


class VectorCache:
    """`path` None: nothing is kept. Vectors are stored in half precision."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def read(self, hashes: Sequence[bytes]) -> dict[bytes, Floats]:
        """The known ones among `hashes`, as (E,) float32."""
        if self.path is None or not self.path.exists():
            return {}
        found: dict[bytes, Floats] = {}
        try:
            with self._open() as database:
                for begin in range(0, len(hashes), ASKED_AT_ONCE):
                    part = list(hashes[begin : begin + ASKED_AT_ONCE])
                    marks = ",".join("?" * len(part))
                    for key, raw in database.execute(f"SELECT hash, vector FROM vectors WHERE hash IN ({marks})", part):
                        found[key] = np.frombuffer(raw, np.float16).astype(np.float32)
        except (sqlite3.DatabaseError, ValueError) as error:
            self._discard(error)
            return {}
        return found

    def width(self) -> int | None:
        """E of any vector that is kept; None for an empty cache."""
        if self.path is None or not self.path.exists():
            return None
        try:
            with self._open() as database:
                row = database.execute("SELECT length(vector) FROM vectors LIMIT 1").fetchone()
        except sqlite3.DatabaseError as error:
            self._discard(error)
            return None
        return row[0] // 2 if row else None

    def add(self, vectors: Mapping[bytes, Floats]) -> None:
        """Keep these; what is there already stays as it is."""
        if self.path is None or not vectors:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            action = "Make ENDCAP_HOME a folder that can be written."
            raise ConfigError(f"cannot be made ({error.strerror})", field=str(self.path.parent), action=action) from error
        rows = [(key, vector.astype(np.float16).tobytes()) for key, vector in sorted(vectors.items())]
        try:
            self._insert(rows)
        except sqlite3.OperationalError:
            raise  # locked for too long, or a full disk: throwing the file away would not help
        except sqlite3.DatabaseError as error:
            self._discard(error)
            self._insert(rows)

    def _insert(self, rows: list[tuple[bytes, bytes]]) -> None:
        with self._open() as database:
            database.execute(TABLE)
            database.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection, committed and closed at the end."""
        with contextlib.closing(sqlite3.connect(str(self.path), timeout=WAIT_SECONDS)) as database, database:
            yield database

    def _discard(self, error: Exception) -> None:
        """An unreadable cache is lost work, not lost data: the texts are encoded again."""
        if isinstance(error, sqlite3.OperationalError) and "no such table" not in str(error):
            raise error
        logger.warning("vector_cache_discarded", extra={"path": str(self.path), "error": str(error)})
        if self.path is not None:
            self.path.unlink(missing_ok=True)
