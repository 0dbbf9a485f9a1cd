"""`endcap learn-policy`: what shown items earned, into what policies know."""

from __future__ import annotations

import json
import os

import typer


def register(app: typer.Typer) -> None:
    """Add the command learn-policy."""
    app.command("learn-policy", rich_help_panel="Models")(learn_policy)


def learn_policy(
    anew: bool = typer.Option(False, "--anew", help="Forget what is learnt, and learn from all that the event log holds."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Learn from shown items whose time is over what they earned, for the policies that learn (params.yaml: policies).

    A shown item is learnt once, when the longest of policies.rewards and policies.late_hours are over. The state is a new file
    below ENDCAP_HOME/policies, which running services take within seconds. Run it as often as you like, by cron.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from endcap.pipeline.policy_learning import learn

    found = learn(anew)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    typer.echo(f"Learnt {found['learnt']:,} shown items, {found['rewarded']:,} of them rewarded; {found['waiting']:,} wait.")
    for feature_set, rows in found["unknown"].items():
        typer.echo(f"Not learnt: {rows:,} rows of features {feature_set}, which this version does not know.", err=True)
    for reason in found["refused"]:
        typer.echo(f"Passed over: {reason}", err=True)
    typer.echo(f"State: {found['state']}, {found['rows']:,} shown items." if found["state"] else "Nothing is learnt yet.")
