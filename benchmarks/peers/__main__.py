"""Run Endcap and its peers on one split and write the comparison: `python -m benchmarks.peers --help`."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.peers import off_policy, quality, report, throughput
from benchmarks.peers.contestants import MODULES, ROOT
from benchmarks.peers.exchange import Job
from benchmarks.peers.splits import make_shop, prepare, read_interactions
from endcap.cli.benchmark_record import keep_record
from endcap.errors import EndcapError, InputError

DEFAULT_SET = "amazon_beauty/interactions.parquet"  # below ENDCAP_DATA_DIR


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description="Endcap, RecTools and implicit on one split; off-policy: Endcap and obp."
    )
    parser.add_argument("parts", nargs="*", help="throughput, quality (both); off-policy")
    parser.add_argument(
        "--interactions", type=Path, help=f"parquet: user, item, position or timestamp (ENDCAP_DATA_DIR/{DEFAULT_SET})"
    )
    parser.add_argument("--synthetic", type=int, nargs=2, metavar=("USERS", "ITEMS"), help="a made-up shop instead of a file")
    parser.add_argument("--models", nargs="+", choices=list(MODULES), default=list(MODULES), help="for quality (all)")
    parser.add_argument(
        "--max-minutes", type=float, default=10, help="of training, for each model that learns by epochs (%(default)s)"
    )
    parser.add_argument("--mark-minutes", type=float, default=5, help="what is best by then is judged too (%(default)s)")
    parser.add_argument("--epochs", type=int, default=200, help="at most (%(default)s)")
    parser.add_argument("--patience", type=int, default=10, help="epochs without a better validation (%(default)s)")
    parser.add_argument("--seeds", type=int, default=1, help="for quality (%(default)s)")
    parser.add_argument("--dim", type=int, default=64, help="for quality (%(default)s)")
    parser.add_argument("--dims", type=int, nargs="+", default=[64, 128], help="for throughput (64 128)")
    parser.add_argument("--rounds", type=int, default=3, help="for throughput (%(default)s)")
    parser.add_argument(
        "--epoch-batches", type=int, default=15, help="batches that count as a peer's epoch in throughput (%(default)s)"
    )
    parser.add_argument("--scout-batches", type=int, default=5, help="the same when its settings are scouted (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="for everybody (%(default)s)")
    parser.add_argument("--work", type=Path, default=None, help="where finished parts are kept (ENDCAP_HOME/bench-peers)")
    parser.add_argument("--open-bandit", type=Path, help=f"for off-policy (ENDCAP_DATA_DIR/{off_policy.DEFAULT_FOLDER})")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "peers", help="without suffix")
    options = parser.parse_args(words)
    unknown = set(options.parts) - {"throughput", "quality", "off-policy"}
    if unknown:
        parser.error(f"unknown part {sorted(unknown)[0]}: throughput, quality or off-policy")
    options.parts = options.parts or ["throughput", "quality"]
    options.work = options.work or Path(os.environ.get("ENDCAP_HOME", ROOT / "var")) / "bench-peers"
    return options


def split_of(options: argparse.Namespace) -> dict[str, Any]:
    """The split to compare on.

    Raises:
        InputError: neither a file nor a folder with data nor --synthetic is given, or the file cannot be used.
    """
    if options.synthetic:
        users, items = options.synthetic
        return prepare(make_shop(users, items), f"synthetic, {users} users, {items} items", options.work)
    path, folder = options.interactions, os.environ.get("ENDCAP_DATA_DIR")
    if path is None and folder:
        path = Path(folder) / DEFAULT_SET
    if path is None:
        action = "Set ENDCAP_DATA_DIR, or give --interactions FILE (make: INTERACTIONS=FILE), or --synthetic 2000 500."
        raise InputError("no data to compare on", field="interactions", value=None, action=action)
    return prepare(read_interactions(path), f"{path.parent.name}/{path.name}", options.work)


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """All parts that were asked for."""
    load = round(os.getloadavg()[0], 1)
    split = split_of(options)
    folder, digest = options.work / "parts", split["digest"]
    job = Job(
        model="",
        mode="",
        split=split.pop("folder"),
        out="",
        dim=options.dim,
        epochs=options.epochs,
        patience=options.patience,
        threads=options.threads,
        max_seconds=options.max_minutes * 60,
        mark_seconds=options.mark_minutes * 60,
    )
    results: dict[str, Any] = {"split": split, "mark_seconds": job.mark_seconds, "options": _told(options)}
    settings: dict[str, Any] = {}
    if "throughput" in options.parts:
        found = throughput.measure(
            replace(job, epoch_batches=options.epoch_batches),
            folder,
            digest,
            options.dims,
            options.rounds,
            options.scout_batches,
        )
        settings = {name: value for name, value in throughput.SCOUTED[found["fastest"]].items() if name != "threads"}
        results["throughput"] = found
    if "quality" in options.parts:
        results["quality"] = quality.measure(job, folder, digest, options.models, options.seeds, settings)
    machine = {"cpu": _cpu(), "cpus": os.cpu_count(), "threads": options.threads, "load_1m": load, "system": platform.system()}
    results |= {"machine": machine, "commit": _commit(), "measured_at": datetime.now(UTC).isoformat(timespec="seconds")}
    return results


def _told(options: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(options).items() if not isinstance(value, Path)}


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return names[0] if names else platform.processor() or "unknown"


def _commit() -> str:
    told = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return told.stdout.strip() or "unknown"


def main() -> int:
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a contestant is ended with it
    try:
        if "off-policy" in options.parts:
            data = Path(os.environ.get("ENDCAP_DATA_DIR", "."))
            found = off_policy.measure(options.open_bandit or data / off_policy.DEFAULT_FOLDER)
            beside = options.out.with_name(f"{options.out.name}_off_policy")
            keep_record("peers-off-policy", found, tuple(off_policy.write(found, beside)), mlflow=True)
            print(off_policy.page(found))
        if {"throughput", "quality"} & set(options.parts):
            results = compare(options)
            keep_record("peers", results, tuple(report.write(results, options.out)), mlflow=True)
            print(report.page(results))
    except EndcapError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
