"""The rules of the shelf as a file: YAML, read whole and checked whole, with the stock file beside it.

Not here: what rules may say (ranking/business_rules.py), and when the file is read again (rules_store.py).
"""

from __future__ import annotations

import difflib
import math
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from endcap.config import UniqueKeys
from endcap.data.table_files import read_table
from endcap.errors import ConfigError, InputError
from endcap.ranking.business_rules import Rules, Stock

_EXAMPLE = "`examples/rules.yaml` explains every key."
_ACTIONS = {
    "string_type": "Write it in quotes, since YAML takes it for another kind of value.",
    "timezone_aware": "Give a zone: 2026-11-27T00:00:00+01:00.",
    "datetime_type": "Write it as 2026-11-27T00:00:00+01:00.",
}


def read_rules(path: Path) -> Rules:
    """The rules, what the stock file says folded into `stock.out`.

    Raises:
        ConfigError: it or its stock file cannot be read, or says what no rule may say; names file, key and value.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), UniqueKeys)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError) as error:
        action = f"Mend it, or unset ENDCAP_RULES to serve without rules. {_EXAMPLE}"
        raise ConfigError(f"cannot be read ({error})", field=str(path), action=action) from error
    try:
        rules = Rules.model_validate({} if raw is None else raw)  # a file of comments has no rules
    except ValidationError as error:
        raise _explained(error, path) from error
    if rules.stock.file is None:
        return rules
    out = _sold_out(path.parent / rules.stock.file)
    return rules.model_copy(update={"stock": Stock(out=(*rules.stock.out, *out), file=rules.stock.file)})


def stock_file(path: Path, rules: Rules) -> Path | None:
    """Where the stock is listed: a path of the rules counts from their own folder."""
    return path.parent / rules.stock.file if rules.stock.file else None


def require_listed(path: Path, rules: Rules, missing: Callable[[Sequence[str]], Sequence[str]]) -> None:
    """`missing`: which of these items the catalogue does not list.

    Raises:
        ConfigError: a pinned or promoted item is not listed, so that nobody would ever see it.
    """
    named = {pin.item: f"pinned.{place}.item" for place, pin in enumerate(rules.pinned)}
    for place, promotion in enumerate(rules.promoted):
        named |= dict.fromkeys(promotion.items, f"promoted.{place}.items")
    if unknown := missing(list(named)):
        action = "Mend the id, or bring in a catalogue that lists it (`endcap ingest`)."
        raise ConfigError("is no item of the catalogue", field=f"{path}: {named[unknown[0]]}", value=unknown[0], action=action)


def _sold_out(path: Path) -> list[str]:
    """Items of which nothing is left. A blank stock says nothing, so it counts as in stock."""
    try:
        table = read_table(path)
    except InputError as error:
        raise ConfigError(error.problem, field=f"stock.file: {error.field}", action=error.action) from error
    if lacking := {"item_id", "stock"} - set(table.column_names):
        action = f"It has {', '.join(table.column_names[:10])}; name them item_id and stock."
        raise ConfigError("has no such column", field=f"stock.file: {path}", value=min(lacking), action=action)
    items, stocks = table["item_id"].to_pylist(), table["stock"].to_pylist()
    return [str(item) for item, stock in zip(items, stocks, strict=True) if _pieces(item, stock, path) <= 0]


def _pieces(item: object, stock: Any, path: Path) -> float:
    if stock is None or stock != stock:  # a null of pandas is NaN
        return math.inf
    try:
        pieces = float(stock)
    except (TypeError, ValueError):
        pieces = math.nan
    if math.isnan(pieces):
        raise ConfigError("is no number of pieces", field=f"stock.file: {path}: {item}", value=stock, action="Mend the export.")
    return pieces


def _explained(error: ValidationError, path: Path) -> ConfigError:
    errors = error.errors()  # a misspelt key is also a missing one: what is there names it best
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    keys = [str(part) for part in first["loc"]]
    field, value = f"{path}: {'.'.join(keys)}" if keys else str(path), first["input"]
    if first["type"] == "extra_forbidden":
        known = _known_keys(keys[:-1])
        near = difflib.get_close_matches(keys[-1], known, n=1)
        hint = f"Did you mean `{near[0]}`?" if near else f"Known keys: {', '.join(known)}."
        return ConfigError("unknown key", field=field, value=value, action=hint)
    problem = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        value = None  # a whole rule: the message names what in it
    return ConfigError(problem, field=field, value=value, action=_ACTIONS.get(first["type"], _EXAMPLE))


def _known_keys(keys: Sequence[str]) -> list[str]:
    model: Any = Rules
    for key in keys:
        if key in model.model_fields:
            annotation = model.model_fields[key].annotation  # Stock, or tuple[Pin, ...]
            model = (typing.get_args(annotation) or (annotation,))[0]
    return [field.alias or name for name, field in model.model_fields.items()]
