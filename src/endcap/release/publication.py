"""Where an outcome goes: the scorecard's page, MLflow's run and description, and last the signed gate record."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from endcap.data.atomic_write import write_atomically
from endcap.release.page import Fact, render
from endcap.release.records import GATE, gate_record, now, to_tag

if TYPE_CHECKING:
    from endcap.config import Settings
    from endcap.contracts import ModelVersion
    from endcap.release.registry import Registry
    from endcap.release.scorecard import Scorecard
    from endcap.release.signing import Keys
    from endcap.sections import Gates


def publish(
    registry: Registry,
    keys: Keys,
    settings: Settings,
    candidate: ModelVersion,
    champion: ModelVersion | None,
    scorecard: Scorecard,
    gates: Gates,
) -> str:
    """Write page and figures to `reports/gates/model-<v>/`, copy them to MLflow, sign the record. Returns the page's address.

    The record comes last: until it is there, the version is a candidate that was never judged.
    """
    name = f"gates/model-{candidate.version}"
    url = f"{settings.reports_url}/{name}/index.html"
    folder = settings.paths.reports / name
    card = scorecard.details.get("dataset", {})
    record = keys.sign(
        gate_record(
            candidate,
            passed=scorecard.passed,
            champion=champion.version if champion else None,
            checks=scorecard.checks(),
            warnings=[result.name for result in scorecard.results if not result.blocking and not result.passed],
            thresholds=gates.model_dump(mode="json"),
            judged_dataset_version=card.get("version"),
            holdout=[scorecard.details.get("holdout_start"), scorecard.details.get("holdout_end")],
        )
    )
    page = _page(registry, settings, candidate, champion, scorecard, record)
    write_atomically(folder / "index.html", page)
    write_atomically(folder / "gate_record.json", json.dumps(record, indent=2, sort_keys=True) + "\n")
    write_atomically(folder / "scorecard.json", json.dumps(_figures(scorecard), indent=2, sort_keys=True) + "\n")
    own = scorecard.metrics.get("candidate", {})
    registry.attach(candidate, folder, "scorecard", {f"holdout_{key}": value for key, value in own.items() if value == value})
    registry.describe(candidate.version, _description(champion, scorecard, url))
    tags = {"scorecard": url, GATE: to_tag(record)}
    if candidate.tags.get("status") in ("candidate", "superseded", "gates passed", "gates refused", None):
        tags["status"] = "gates passed" if scorecard.passed else "gates refused"
    registry.set_tags(candidate.version, tags)
    return url


def _page(
    registry: Registry,
    settings: Settings,
    candidate: ModelVersion,
    champion: ModelVersion | None,
    scorecard: Scorecard,
    record: dict[str, Any],
) -> str:
    card = scorecard.details.get("dataset", {})
    made = f"An incremental update of model {candidate.parent_version}" if candidate.parent_version else "A full training"
    against = (
        f"compared with champion {champion.version} and four counters" if champion else "the first: compared with four counters"
    )
    validation = card.get("validation", {}).get("report", "")
    run = f"{registry.url}/#/experiments/{registry.experiment_id(candidate)}/runs/{candidate.run_id}"
    dataset_link = f"{settings.reports_url}/{validation}" if validation else ""
    lineage = [
        Fact("model", f"{candidate.version} ({candidate.kind})", registry.page(candidate.version)),
        Fact(
            "parent model",
            candidate.parent_version or "none",
            registry.page(candidate.parent_version) if candidate.parent_version else "",
        ),
        Fact("learnt from", candidate.dataset_version),
        Fact(
            "judged on",
            f"{card.get('version')}: {card.get('events', 0):,} events, {card.get('users', 0):,} shoppers",
            dataset_link,
        ),
        Fact("newest event before", str(card.get("interval_end", ""))),
        Fact("code", f"{candidate.code_commit} (tree {candidate.tags.get('code_tree', '')[:12]})"),
        Fact("params", candidate.params_hash),
        Fact("training run", candidate.run_id, run),
        Fact("model digest", candidate.digest),
        Fact("judged at", now()),
        Fact("signed by key", str(record["key_id"])),
    ]
    links = [Fact("", "Model in MLflow", registry.page(candidate.version)), Fact("", "Training run", run)]
    if dataset_link:
        links.append(Fact("", "Validation of the data", dataset_link))
    if champion:
        links.append(Fact("", f"Scorecard of champion {champion.version}", f"../model-{champion.version}/index.html"))
    return render(scorecard, f"Model {candidate.version}", f"{made} on {candidate.dataset_version}, {against}.", lineage, links)


def _description(champion: ModelVersion | None, scorecard: Scorecard, url: str) -> str:
    verdict = "**Passed every gate.**" if scorecard.passed else f"**Refused:** {', '.join(scorecard.failed)}."
    against = f"champion {champion.version}" if champion else "the baselines (no champion yet)"
    judged_on = scorecard.details.get("dataset", {}).get("version")
    return f"{verdict} Judged against {against} on the newest days of {judged_on}. [Scorecard]({url})"


def _figures(scorecard: Scorecard) -> dict[str, Any]:
    gates = [
        {
            "group": gate.group,
            "name": gate.result.name,
            "passed": gate.result.passed,
            "blocking": gate.result.blocking,
            "observed": gate.result.observed,
            "expected": gate.result.expected,
            "difference": None
            if gate.comparison is None
            else [gate.comparison.difference.low, gate.comparison.difference.mean, gate.comparison.difference.high],
        }
        for gate in scorecard.gates
    ]
    return {
        "passed": scorecard.passed,
        "failed": scorecard.failed,
        "gates": gates,
        "metrics": scorecard.metrics,
        "details": scorecard.details,
    }
