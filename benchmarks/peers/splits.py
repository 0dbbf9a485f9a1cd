"""Leave-one-out: each user's last event is the test, the one before it the validation, the rest is learnt, for all users."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.peers.exchange import Cases, Histories, Ints, write_split
from endcap.errors import InputError

ORDERS = ("position", "timestamp")


def read_interactions(path: Path) -> pd.DataFrame:
    """Columns user, item and order, sorted by user and order (ties as in the file).

    Raises:
        InputError: no such file, a column is missing, empty, or ids are null.
    """
    if not path.is_file():
        raise InputError("no such file", field="interactions", value=str(path), action="Give --interactions a parquet file.")
    frame = pd.read_parquet(path)
    order = next((name for name in ORDERS if name in frame), None)
    missing = [name for name in ("user", "item") if name not in frame] + ([] if order else ["position or timestamp"])
    if missing:
        raise InputError("columns are missing", field=str(path), value=missing, action="Rename the file's columns.")
    if frame.empty or frame[["user", "item", order]].isna().to_numpy().any():
        action = "Leave out the rows without user, item or order."
        raise InputError("is empty or holds nulls", field=str(path), value=len(frame), action=action)
    frame = frame[["user", "item", order]].rename(columns={order: "order"})
    return frame.sort_values(["user", "order"], kind="stable", ignore_index=True)


def make_shop(users: int, items: int, seed: int = 7) -> pd.DataFrame:
    """A synthetic shop where the next item often is the last one's neighbour; the same for the same numbers."""
    rng = np.random.default_rng(seed)
    lengths = 5 + rng.geometric(0.25, users)
    owners = np.repeat(np.arange(users), lengths)
    popular = np.minimum(rng.zipf(1.4, len(owners)) - 1, items - 1)
    follows = rng.random(len(owners)) < 0.6
    codes = popular.copy()
    for row in range(1, len(owners)):
        if follows[row] and owners[row] == owners[row - 1]:
            codes[row] = (codes[row - 1] + 1) % items
    return pd.DataFrame({"user": owners, "item": codes, "order": np.arange(len(owners))})


def leave_one_out(frame: pd.DataFrame) -> tuple[int, Histories, Cases, Cases]:
    """(items, train, validation, test) of a frame as read_interactions gives it. Codes of items are by sorted id.

    Users with fewer than three events are only learnt. The test's history holds the validation item, which is not learnt.

    Raises:
        InputError: nobody has three events.
    """
    _, users = np.unique(frame["user"].to_numpy(), return_inverse=True)
    names, items = np.unique(frame["item"].to_numpy(), return_inverse=True)
    counts = np.bincount(users)
    judged = counts >= 3
    if not judged.any():
        action = "Give users with three events or more: one to learn, one to choose by, one to judge by."
        raise InputError("nobody can be judged", field="events of a user", value=int(counts.max()), action=action)
    from_end = np.repeat(np.cumsum(counts), counts) - np.arange(len(users))  # 1: the last event
    held = np.where(judged[users], from_end, 3)
    ends = np.cumsum(counts)[judged]

    def cases(back: int) -> Cases:
        keep = judged[users] & (from_end > back)
        lengths = counts[judged] - back
        return Cases(Histories(np.r_[0, np.cumsum(lengths)], items[keep].astype(np.int64)), items[ends - back].astype(np.int64))

    learnt: Ints = items[held > 2].astype(np.int64)
    train = Histories(np.r_[0, np.cumsum(np.where(judged, counts - 2, counts))], learnt)
    return len(names), train, cases(2), cases(1)


def prepare(frame: pd.DataFrame, source: str, folder: Path) -> dict[str, Any]:
    """Write the split of a frame into its own folder below `folder`; returns its facts, `folder` and `digest` among them."""
    content = pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes()
    digest = hashlib.sha256(content).hexdigest()[:16]
    place = folder / f"split-{digest}"
    if not (place / "split.json").exists():
        items, train, validation, test = leave_one_out(frame)
        facts = {
            "source": source, "digest": digest, "protocol": "leave-one-out", "interactions": len(frame), "items": items,
            "users": len(train), "judged_users": len(test.wanted), "learnt": len(train.items),
            "test_items_unseen_in_training": int((~np.isin(test.wanted, train.items)).sum()),
        }  # fmt: skip
        write_split(place, items, train, validation, test, facts)
    facts = json.loads((place / "split.json").read_text(encoding="utf-8"))
    return {**facts, "folder": str(place)}
