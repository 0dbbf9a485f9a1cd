"""From the files of a log and a policy to the file of what the policy would earn."""

from __future__ import annotations

import importlib.metadata
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from endcap.benchmark.input_files import describe_files, read_frame
from endcap.benchmark.measuring import surroundings
from endcap.benchmark.off_policy.chart import draw_forest
from endcap.benchmark.off_policy.judge import judge
from endcap.benchmark.off_policy.log_file import NAMES, Log, read_log
from endcap.benchmark.off_policy.policy_file import read_policy
from endcap.benchmark.result_file import check_out, write_json
from endcap.benchmark.tables import text_ids
from endcap.errors import InputError
from endcap.progress import Progress, silent

CATEGORY = ("category", "item_feature_1")  # the second is the kind of an item in the Open Bandit data set


def run(
    log_path: Path,
    policy_path: Path,
    out: Path,
    *,
    items: Path | None = None,
    reward: str | None = None,
    confidence: float = 0.95,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Read, judge, draw, write: the JSON comes last, so that where it is, all is.

    Raises:
        InputError: a file cannot be used, or the result not written.
    """
    check_out(out, log_path, policy_path, items)
    begun = time.monotonic()
    progress(f"reading {log_path.name}")
    log = read_log(log_path, reward)
    categories = _categories(items, log) if items else None
    progress(f"reading {policy_path.name}")
    policy = read_policy(policy_path, log)
    figures = judge(log, policy, categories, confidence, progress=progress)
    result = {
        "what": "evaluate-policy",
        **figures,
        "log": log.facts,
        "policy": policy.facts,
        "data": describe_files(log=log_path, policy=policy_path, items=items),
        **surroundings(),
        "seconds": round(time.monotonic() - begun, 1),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    result["versions"]["scikit-learn"] = importlib.metadata.version("scikit-learn")
    draw_forest(result, out.with_suffix(".png"))
    write_json(out, result)
    return result


def _categories(path: Path, log: Log) -> npt.NDArray[np.int64]:
    """(A,) the kind of each of the log's items.

    Raises:
        InputError: a column is missing, or an item of the log is.
    """
    frame = read_frame(path)
    item = next((name for name in NAMES["item"] if name in frame), None)
    category = next((name for name in CATEGORY if name in frame), None)
    if item is None or category is None:
        action = f"Name columns {' or '.join(NAMES['item'])} and {CATEGORY[0]}."
        raise InputError("a column is missing", field=str(path), value=list(frame), action=action)
    kinds = text_ids(frame[category], f"{path}: {category}")
    of_item = pd.Series(kinds, index=text_ids(frame[item], f"{path}: {item}"))
    found = of_item[~of_item.index.duplicated()].reindex(log.item_ids)
    if found.isna().any():
        missing = found.index[found.isna()]
        action = "Give every item that was shown."
        raise InputError("lacks items of the log", field=str(path), value=list(missing[:5]), action=action)
    return np.asarray(pd.factorize(found)[0].astype(np.int64))
