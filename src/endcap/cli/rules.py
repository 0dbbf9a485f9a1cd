"""`endcap rules check`: what a file of rules does, in words, before it is in force."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from endcap.ranking.business_rules import Rule, Rules, Selection

rules = typer.Typer(help="The rules of the shelf: what a merchandiser says, over the model.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(rules, name="rules")


@rules.callback()
def _group() -> None:
    """A group, though of one command."""


@rules.command()
def check(file: Annotated[Path, typer.Argument(help="A file such as examples/rules.yaml.", show_default=False)]) -> None:
    """Check a file of rules and say in words what it does. Nothing is put in force: that does ENDCAP_RULES.

    Pinned and promoted items are looked up in the catalogue, and shows so far in the event log, where there is one.
    """
    from endcap.config import load_settings
    from endcap.data.events import EventLog
    from endcap.errors import ServiceUnavailable
    from endcap.serving.rules_file import read_rules, require_listed

    found = read_rules(file)
    shown: dict[str, int] = {}
    event_log = EventLog(load_settings().event_log_url)
    try:
        require_listed(file, found, event_log.unlisted)
        shown = event_log.promotion_shows()
    except ServiceUnavailable:
        typer.echo("The event log does not answer or is new: items are not looked up.")
    finally:
        event_log.close()
    for line in in_words(found, shown) or ["No rules: every slate is the model's own."]:
        typer.echo(line)


def in_words(found: Rules, shown: dict[str, int]) -> list[str]:
    """One line a rule, in the order in which they hold. `shown`: shows so far by promotion."""
    return [*_hidden(found), *_placed(found, shown)]


def _hidden(found: Rules) -> Iterator[str]:
    for block in found.blocked:
        yield f"Never shows {_selected(block)}{_limits(block)}."
    if found.stock.out or found.stock.file:
        source = f" (with {found.stock.file})" if found.stock.file else ""
        yield f"Never shows what is sold out: {len(found.stock.out):,} items{source}."


def _placed(found: Rules, shown: dict[str, int]) -> Iterator[str]:
    for cap in found.at_most:
        which = f" ({', '.join(cap.only)})" if cap.only else ""
        yield f"Shows at most {cap.items} of one {cap.per}{which} in a slate{_limits(cap)}."
    for pin in found.pinned:
        yield f"Puts item {pin.item} at rank {pin.rank}{_limits(pin)}."
    for rule in found.promoted:
        lifts = f"lifts {_selected(rule)}, at most {rule.at_most} a slate, from rank {rule.from_rank} on{_limits(rule)}"
        so_far = f", {shown[rule.name]:,} counted so far" if rule.name in shown else ""
        yield f"Promotion {rule.name} {lifts}; {rule.budget:,} shows in all{so_far}."


def _selected(rule: Selection) -> str:
    named = {"items": rule.items, "categories": rule.categories, "brands": rule.brands}
    return " and ".join(f"{kind} {', '.join(names)}" for kind, names in named.items() if names)


def _limits(rule: Rule) -> str:
    where = f" on {', '.join(rule.surfaces)}" if rule.surfaces else ""
    since = f" from {rule.since:%Y-%m-%d %H:%M %Z}" if rule.since else ""
    return f"{where}{since}" + (f" until {rule.until:%Y-%m-%d %H:%M %Z}" if rule.until else "")
