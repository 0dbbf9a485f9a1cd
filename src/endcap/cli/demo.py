"""`endcap demo`: the main job on a shop, from nothing to a champion that has learnt."""

from __future__ import annotations

import typer
from rich.console import Console


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    shop: str = typer.Option("", help="online-retail or simulated; default: params.yaml's shop.name."),
    weeks: int = typer.Option(-1, help="How many weeks to replay; default: params.yaml's shop.weeks."),
) -> None:
    """Play the main job end to end and leave the stack up.

    History is ingested, validated, cleaned and versioned; a first champion is trained, judged, approved and served;
    then weeks of shoppers are replayed, a poisoned batch and a spoiled candidate among them. Interrupted or run again,
    it goes on from what it finds.
    """
    from endcap.config import Params, load_params, load_settings
    from endcap.demo.play import Demo

    params = load_params()
    chosen = params.model_dump()
    if shop:
        chosen["shop"]["name"] = shop
    if weeks >= 0:
        chosen["shop"]["weeks"] = weeks
    Demo(load_settings(), Params.model_validate(chosen), Console(soft_wrap=True)).play()
