"""The results as a page, a picture and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.peers.exchange import write_json


def write(results: dict[str, Any], base: Path) -> list[Path]:
    """`base`.json, .md and .png; returns what was written."""
    base.parent.mkdir(parents=True, exist_ok=True)
    paths = [base.with_suffix(suffix) for suffix in (".json", ".md", ".png")]
    write_json(paths[0], results)
    paths[1].write_text(page(results), encoding="utf-8")
    _draw(results, paths[2])
    return paths


def page(results: dict[str, Any]) -> str:
    """Markdown."""
    split, machine = results["split"], results["machine"]
    lines = [
        "# Endcap and its peers", "",
        f"{split['source']}: {split['users']:,} users, {split['items']:,} items, {split['interactions']:,} interactions; "
        f"{split['protocol']}, all items ranked, seen items masked. {machine['cpu']}, {machine['threads']} threads, "
        f"load {machine['load_1m']} at the start; {results['measured_at'][:10]}, commit {results['commit'][:12]}.",
    ]  # fmt: skip
    if "quality" in results:
        lines += ["", *_quality(results["quality"], results["mark_seconds"])]
    if "throughput" in results:
        lines += ["", *_throughput(results["throughput"])]
    return "\n".join(lines) + "\n"


def _quality(quality: dict[str, Any], mark: float) -> list[str]:
    head = ("model", "Recall@10", "NDCG@10", "95 % over users", f"NDCG@10 after {mark / 60:g} min", "best epoch")
    head += ("seconds to best", "sequences/s", "peak memory, MiB", "ended by")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, row in quality["models"].items():
        mean, first = row["mean"], row["runs"][0]
        cells = [
            name, _rate(mean["recall@10"]), _rate(mean["ndcg@10"]), "–".join(_rate(value) for value in row["interval"]),
            _rate(mean.get("at_mark")), _number(mean.get("best_epoch")), _number(mean.get("seconds_to_best")),
            _number(mean.get("sequences_per_second")), _number(mean.get("peak_above_baseline_mib")),
            first.get("stopped_by", "–"),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    for name, pair in quality["differences"].items():
        lines.append(f"- Endcap less {name}, NDCG@10: {pair['mean']:+.4f} [{pair['low']:+.4f}, {pair['high']:+.4f}]")
    return lines


def _throughput(throughput: dict[str, Any]) -> list[str]:
    scouted = ", ".join(f"{name} {value:.0f}" for name, value in throughput["scouted"].items())
    lines = [
        f"RecTools' settings, scouted (sequences/s): {scouted}. {throughput['rounds']} rounds, median [lowest, highest].",
        "",
    ]
    lines += ["| d | side | sequences/s | targets/s | peak memory above baseline, MiB |", "|---|---|---|---|---|"]
    for dim, width in throughput["widths"].items():
        for name, side in width["sides"].items():
            cells = [_range(side[unit]) for unit in ("sequences_per_second", "targets_per_second", "peak_above_baseline_mib")]
            lines.append(f"| {dim} | {name} | " + " | ".join(cells) + " |")
        ratios = width["ratios_to_the_best_peer"]
        cells = [_range(ratios.get(unit), 2) for unit in ("sequences_per_second", "targets_per_second", "peak_memory")]
        lines.append(f"| {dim} | **Endcap / best peer** | " + " | ".join(f"**{cell}**" for cell in cells) + " |")
    return lines


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}".lstrip("0")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _range(spread: dict[str, float | None] | None, digits: int = 0) -> str:
    if not spread or spread["median"] is None:
        return "–"
    return f"{spread['median']:,.{digits}f} [{spread['low']:,.{digits}f}, {spread['high']:,.{digits}f}]"


def _draw(results: dict[str, Any], path: Path) -> None:
    """Left: NDCG@10 on validation against seconds of training. Right: sequences/s."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for name, row in results.get("quality", {"models": {}})["models"].items():
        first = row["runs"][0]
        if "epochs" in first:
            points = [(epoch["trained_seconds"], epoch["validation"]) for epoch in first["epochs"]]
            left.plot(*zip(*points, strict=True), marker=".", label=name)
        else:
            left.axhline(first["validation"], linestyle=":", color="grey")
            left.annotate(name, (0, first["validation"]), fontsize=7, color="grey")
    left.set(xlabel="seconds of training", ylabel="NDCG@10, validation", ylim=(0, None))
    if left.get_legend_handles_labels()[0]:
        left.legend(fontsize=8)
    bars = [
        (f"{name}, d {dim}", side["sequences_per_second"])
        for dim, width in results.get("throughput", {"widths": {}})["widths"].items()
        for name, side in width["sides"].items()
    ]
    for place, (_, spread) in enumerate(bars):
        right.barh(place, spread["median"], color="tab:blue")
        right.plot([spread["low"], spread["high"]], [place, place], color="black")
    right.set_yticks(range(len(bars)), [name for name, _ in bars], fontsize=7)
    right.set(xlabel="sequences/s, median and range over rounds")
    figure.savefig(path, dpi=120)
    plt.close(figure)
