"""The main job, played on a shop: history in, a first champion, weeks of shoppers, what must be refused, the summary.

Every step goes through what a user would use: Airflow's API, the HTTP service, the registry. Each is done once (`state.py`).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from endcap import stack
from endcap.config import Params, Settings
from endcap.demo import sabotage
from endcap.demo.airflow_client import AirflowClient, DagRun
from endcap.demo.narrator import Narrator, task_line
from endcap.demo.shop_front import ShopFront
from endcap.demo.shops import DemoShop, choose_shop
from endcap.demo.state import DemoState
from endcap.errors import EndcapError
from endcap.pipeline import ingest

if TYPE_CHECKING:
    from rich.console import Console

APPROVAL = "approve"
POISONED_WEEK, SPOILED_WEEK = 1, 2


class Demo:
    """Plays the main job. One instance a `make demo`."""

    def __init__(self, settings: Settings, params: Params, console: Console) -> None:
        self.settings, self.params = settings, params
        self.state = DemoState(settings.paths.demo / "state.json")
        self.tell = Narrator(console, self.state.seconds)

    def play(self) -> dict[str, Any]:
        """Run the job to its end, going on from what is there, and write the summary."""
        from endcap.demo.summary import write_summary

        if self.state.done:
            self.tell.say(f"Going on from {self.state.path}: {len(self.state.done)} steps are done already.")
        with self.tell.step("stack_up", "The stack comes up: Airflow, MLflow, Evidently, the service") as update:
            stack.up(self.settings, on_progress=update)
        self.airflow = AirflowClient(self.settings.airflow_url, self.settings.airflow_user, stack.password(self.settings))
        self.front = ShopFront(self.settings.serving_url, self.settings.service_key)
        shop = choose_shop(self.settings, self.params, self.state, self.tell)
        self._first_champion(shop)
        for number, start in enumerate(shop.weeks, start=1):
            self._week(shop, number, start)
        summary = write_summary(self.settings, self.params, shop, self.state, self.tell)
        if summary["champion"] is None:
            action = "Read their scorecards; they are linked in the summary."
            raise EndcapError(
                "no candidate earned its place", field="champion", value=summary["refused_candidates"], action=action
            )
        return summary

    # -- the first champion -------------------------------------------------------------------------------------------

    def _first_champion(self, shop: DemoShop) -> None:
        self.tell.heading(f"History until {shop.history_until:%Y-%m-%d}")
        dataset = self._once("history", "History: validated, cleaned, versioned", lambda: self._ingest_history(shop))
        self.tell.say(f"{dataset['dataset_version']}: {dataset['events']:,} events. Cleaning: {_counts(dataset['cleaning'])}")
        candidate = self._once("first_training", "First training (retrain_full)", lambda: self._train("retrain_full", dataset))
        first = self._once("first_promotion", "Gates, approval, champion", lambda: self._promote(candidate))
        self.tell.say(_verdict(first))

    def _ingest_history(self, shop: DemoShop) -> dict[str, Any]:
        batch = shop.land_history(self.settings)
        return self._ingest(shop.history_from, shop.history_until, source=batch)

    # -- one week -------------------------------------------------------------------------------------------------------

    def _week(self, shop: DemoShop, number: int, start: datetime) -> None:
        end = start + timedelta(days=7)
        self.tell.heading(f"Week {number}: {start:%Y-%m-%d} to {end - timedelta(days=1):%Y-%m-%d}")
        name = f"week{number}"
        self._once(f"{name}_serving", "Who serves this week", lambda: {"champion": self.front.model_version()}, quiet=True)
        sent = self._once(f"{name}_replay", "Shoppers ask and buy, day by day", lambda: self._replay(shop, start, end))
        hits = f"{sent['hit_rate']:.1%} of the slates held a purchase of that day"
        self.tell.say(f"{sent['requests']:,} requests, {sent['accepted']:,} events; {hits}.")
        if number == POISONED_WEEK:
            self._poison(shop, start)
        dataset = self._once(f"{name}_ingest", "Ingested, validated, versioned", lambda: self._ingest(start, end))
        drift = self._once(f"{name}_drift", "Drift check", lambda: self._drift(dataset))
        self.tell.say("[yellow]drifted[/]: " + "; ".join(drift["reasons"]) if drift["drifted"] else "no drift")
        candidate = self._once(f"{name}_update", "A candidate that has learnt the week", lambda: self._update(dataset, drift))
        result = self._once(f"{name}_promotion", "Gates, approval, champion", lambda: self._promote(candidate))
        self.tell.say(_verdict(result))
        if number == SPOILED_WEEK or (number == len(shop.weeks) < SPOILED_WEEK):
            self._spoil(dataset)

    def _replay(self, shop: DemoShop, start: datetime, end: datetime) -> dict[str, Any]:
        totals = {"requests": 0, "accepted": 0, "duplicates": 0, "rejected": 0}
        hits = 0
        for visit in shop.visits(start, end):
            answer = self.front.recommend(visit.user_id, surface="home", k=self.params.evaluate.k, at=visit.time)
            shown = {item["item_id"] for item in answer["items"]}
            events = [dict(e, request_id=answer["request_id"]) if e["item_id"] in shown else e for e in visit.events]
            hits += any("request_id" in e for e in events)
            totals["requests"] += 1
            for key, value in self.front.send(events).items():
                totals[key] += value
            self._update_line(f"{visit.time:%a %d %b}: {totals['requests']:,} requests, {totals['accepted']:,} events")
        ingest.accept_catalog(shop.land_catalog(self.settings, start, end))
        return {**totals, "hit_rate": hits / max(1, totals["requests"])}

    # -- through Airflow --------------------------------------------------------------------------------------------------

    def _ingest(self, start: datetime, end: datetime, source: str = "log") -> dict[str, Any]:
        conf = {"interval_start": start.isoformat(), "interval_end": end.isoformat(), "source": source}
        run = self._finish(self.airflow.trigger("ingest_events", conf))
        if run.state != "success":
            raise EndcapError("the batch was not accepted", field=run.run_id, action=f"Look at {self.airflow.link(run)}.")
        result: dict[str, Any] = self.airflow.xcom(run, "version_dataset")
        return {**result, "cleaning": _rules(self.airflow.xcom(run, "clean_batch")), "run": asdict(run)}

    def _drift(self, dataset: dict[str, Any]) -> dict[str, Any]:
        run = self.airflow.started_by("monitor_models", DagRun(**dataset["run"]))
        if run is None:
            raise EndcapError(
                "no drift check was started by the new dataset version",
                field="monitor_models",
                value=dataset["dataset_version"],
            )
        run = self._finish(run)
        if run.state != "success":
            raise EndcapError("the drift check failed", field=run.run_id, action=f"Look at {self.airflow.link(run)}.")
        check: dict[str, Any] = self.airflow.xcom(run, "check_drift")
        return {**check, "run": asdict(run), "started_update": self.airflow.tasks(run).get("announce_drift") == "success"}

    def _update(self, dataset: dict[str, Any], drift: dict[str, Any]) -> dict[str, Any]:
        if drift["started_update"]:
            run = self.airflow.started_by("update_incremental", DagRun(**drift["run"]))
            if run is not None:
                return self._trained(self._finish(run))
        return self._train("update_incremental" if self.front.model_version() else "retrain_full", dataset)

    def _train(self, dag_id: str, dataset: dict[str, Any]) -> dict[str, Any]:
        return self._trained(self._finish(self.airflow.trigger(dag_id, {"dataset_version": dataset["dataset_version"]})))

    def _trained(self, run: DagRun) -> dict[str, Any]:
        if run.state != "success":
            raise EndcapError("training failed", field=run.run_id, action=f"Look at {self.airflow.link(run)}.")
        return {**self.airflow.xcom(run, "register_candidate"), "run": asdict(run)}

    def _promote(self, candidate: dict[str, Any]) -> dict[str, Any]:
        run = self.airflow.started_by("promote_model", DagRun(**candidate["run"]))
        if run is None:
            run = self.airflow.trigger("promote_model", {"model_version": candidate["model_version"]})
        return self._judge(run, candidate)

    def _judge(self, run: DagRun, candidate: dict[str, Any]) -> dict[str, Any]:
        """Follow a promotion; the demo's operator approves what passed the gates."""
        run = self._finish(run, approve=True)
        gates = self.airflow.xcom(run, "evaluate_gates")
        promoted = run.state == "success"
        if gates["passed"] and not promoted:
            raise EndcapError(
                "passed its gates and was not promoted", field=run.run_id, action=f"Look at {self.airflow.link(run)}."
            )
        if promoted:
            self.front.wait_for_model(candidate["model_version"])
        return {
            "model_version": candidate["model_version"],
            "kind": candidate["kind"],
            "dataset_version": candidate["dataset_version"],
            "gate_passed": gates["passed"],
            "failed_gates": gates["failed"],
            "scorecard": gates["report_url"],
            "approved_by": self.settings.airflow_user if promoted else None,
            "run_url": self.airflow.link(run),
        }

    def _finish(self, run: DagRun, *, approve: bool = False) -> DagRun:
        def on_tasks(tasks: dict[str, str]) -> None:
            self._update_line(task_line(tasks))
            if approve and self.airflow.waits_for_person(run, APPROVAL):
                self.airflow.answer(run, APPROVAL, "Approve")

        return self.airflow.wait(run, on_tasks=on_tasks)

    # -- what must be refused -----------------------------------------------------------------------------------------------

    def _poison(self, shop: DemoShop, start: datetime) -> None:
        def act() -> dict[str, Any]:
            batch = sabotage.land_poisoned_batch(self.settings, shop, start)
            end = start + timedelta(days=1)
            conf = {"interval_start": start.isoformat(), "interval_end": end.isoformat(), "source": batch}
            run = self._finish(self.airflow.trigger("ingest_events", conf))
            if run.state == "success":
                raise EndcapError(
                    "a poisoned batch was accepted", field="ingest_events", value=batch, action="This is a defect."
                )
            reason = json.loads((self.settings.paths.quarantine / batch / "reason.json").read_text(encoding="utf-8"))
            return {
                "batch": batch,
                "reasons": reason["reasons"],
                "report": reason["report_url"],
                "run_url": self.airflow.link(run),
            }

        result = self._once("poisoned", "A poisoned batch arrives and is quarantined whole", act)
        for reason in result["reasons"]:
            self.tell.say(f"[red]refused[/] {reason}")

    def _spoil(self, dataset: dict[str, Any]) -> None:
        if not self.front.model_version():
            return

        def act() -> dict[str, Any]:
            candidate = sabotage.register_spoiled_candidate(self.settings, dataset["dataset_version"])
            result = self._judge(
                self.airflow.trigger("promote_model", {"model_version": candidate["model_version"]}), candidate
            )
            if result["approved_by"]:
                raise EndcapError(
                    "a spoiled candidate was promoted", field="model", value=candidate, action="This is a defect."
                )
            return result

        result = self._once("spoiled", "A spoiled candidate meets the gates", act)
        self.tell.say(_verdict(result))

    # -- telling ------------------------------------------------------------------------------------------------------------

    def _once(self, name: str, title: str, act: Any, *, quiet: bool = False) -> Any:
        if name in self.state.done:
            if not quiet:
                self.tell.say(f"[dim]{title}: done before[/]")
            return self.state.done[name]
        if quiet:
            return self.state.once(name, act)
        with self.tell.step(name, title) as update:
            self._update_line = update
            return self.state.once(name, act)


def _rules(cleaned: dict[str, Any]) -> dict[str, int]:
    return {name: count for name, count in cleaned.items() if name not in {"batch_id", "events"}}


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{rule} {number:,}" for rule, number in counts.items() if number)


def _verdict(result: dict[str, Any]) -> str:
    if result["approved_by"]:
        return f"Model {result['model_version']} ({result['kind']}) serves; approved by {result['approved_by']}."
    return f"[red]Model {result['model_version']} was refused[/] by: {', '.join(result['failed_gates'])}"
