"""The section `tune` of params.yaml, and whether its search space fits the parameters that it is to search.

Here belongs what can be said of a space without a study. Not here: studies and trials (tuning/), which need Optuna.
"""

from __future__ import annotations

import difflib
import itertools
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from endcap.errors import ConfigError

TUNABLE = ("train", "recent_days")  # what the train stage alone reads; a trial fits on data that is prepared and encoded
NOT_TUNABLE = {
    "train.seed": "a seed is luck, and the best of many is no better next week",
    "train.max_seconds": "it is a safety net: a cut run is not repeatable",
    "train.processes": "it changes how fast a training is, not what it learns",
    "train.update": "validation ranks the newest days before they are absorbed, so a trial would not notice",
}
Scalar = bool | int | float | str | None


class Dimension(BaseModel):
    """Where one parameter may lie: `choices`, or `low` to `high` (both included) on a plain or a logarithmic scale."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    choices: tuple[Scalar, ...] | None = None
    low: int | float | None = None
    high: int | float | None = None
    step: Annotated[int | float, Field(gt=0)] | None = None
    log: bool = False

    @model_validator(mode="after")
    def _one_of_two(self) -> Dimension:
        ends = (self.low, self.high)
        if self.choices is not None:
            if any(value is not None for value in (*ends, self.step)) or self.log:
                raise ValueError("give either choices, or low and high")
            if not self.choices or len({repr(choice) for choice in self.choices}) < len(self.choices):
                raise ValueError("choices must be some, each once")
        elif self.low is None or self.high is None:
            raise ValueError("give choices, or both low and high")
        elif self.low >= self.high:
            raise ValueError("low must be below high")
        elif self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("a logarithmic range starts above 0 and has no step")
        return self

    def values(self) -> tuple[Scalar, ...]:
        """What a value may be, as far as this can be listed: the choices, or the ends of the range."""
        return self.choices if self.choices is not None else (self.low, self.high)

    def listed(self, integer: bool) -> tuple[Scalar, ...] | None:
        """Every value, for a grid; None for a range without a step that is not of whole numbers.

        >>> Dimension(low=1, high=7, step=3).listed(integer=True)
        (1, 4, 7)
        """
        if self.choices is not None:
            return self.choices
        assert self.low is not None
        assert self.high is not None
        step = self.step or (1 if integer and not self.log else None)
        if step is None:
            return None
        count = int((self.high - self.low) / step + 1e-9) + 1
        return tuple(round(self.low + place * step, 12) for place in range(count))


class Tune(BaseModel):
    """How hyper-parameters are searched for (`endcap tune`, and `tune_trials` of retrain_full)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sampler: Literal["tpe", "grid", "random"]
    trials: Annotated[int, Field(ge=1)]
    max_seconds: Annotated[float, Field(gt=0)]
    pruner: Literal["none", "median", "successive_halving", "hyperband"]
    startup_trials: Annotated[int, Field(ge=0)]  # before anything is pruned and before TPE believes what it saw
    warmup_epochs: Annotated[int, Field(ge=0)]  # of a trial, before it may be pruned
    metric: Literal["ndcg_at_10", "recall_at_10", "ndcg_at_10_new", "recall_at_10_new"]
    seed: int
    space: dict[str, Dimension]


def check_space(tune: Tune, params: type[BaseModel]) -> None:
    """See that every key is a parameter which may be tuned, and that every value of its dimension is one it may have.

    Raises:
        ConfigError: names the key, and the nearest right one or what its values must be.
    """
    known = dict(tunable(params))
    for key, dimension in tune.space.items():
        where = f"tune.space.{key}"
        for refused, why in NOT_TUNABLE.items():
            if key == refused or key.startswith(f"{refused}."):
                raise ConfigError(f"cannot be tuned: {why}", field=where, action="Take it out of tune.space.")
        if key not in known:
            raise ConfigError("is no parameter that can be tuned", field=where, action=_nearest(key, known))
        if dimension.choices is None and not _numeric(known[key]):
            raise ConfigError("is no number, so it has no range", field=where, action="Give its values as choices.")
        for value in dimension.values():
            _check(where, value, known[key])
        if tune.sampler == "grid" and dimension.listed(_integer(known[key])) is None:
            raise ConfigError("is no grid", field=where, action="Give choices or a step, or set tune.sampler to tpe or random.")


def tunable(params: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    """Dotted key → type (with its limits) of every parameter that may be tuned."""
    for key, kind in _leaves(params, ""):
        if key.split(".")[0] in TUNABLE and not any(key == no or key.startswith(f"{no}.") for no in NOT_TUNABLE):
            yield key, kind


def integers(space: Mapping[str, Dimension], params: type[BaseModel]) -> set[str]:
    """The keys of a space that are whole numbers."""
    known = dict(tunable(params))
    return {key for key in space if _integer(known[key])}


def grid(space: Mapping[str, Dimension], whole: set[str]) -> list[dict[str, Scalar]]:
    """Every combination, in the order of the keys.

    >>> grid({"a": Dimension(choices=(1, 2)), "b": Dimension(choices=("x",))}, set())
    [{'a': 1, 'b': 'x'}, {'a': 2, 'b': 'x'}]
    """
    lists = [dimension.listed(key in whole) or () for key, dimension in space.items()]
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*lists)]


def _leaves(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _leaves(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", Annotated[(kind, *field.metadata)] if field.metadata else kind


def _plain(kind: Any) -> Any:
    """The type without limits and without None."""
    if typing.get_origin(kind) is Annotated:
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        some = [_plain(one) for one in typing.get_args(kind) if one is not type(None)]
        return some[0] if len(some) == 1 else kind
    return kind


def _integer(kind: Any) -> bool:
    return _plain(kind) is int


def _numeric(kind: Any) -> bool:
    return _plain(kind) in (int, float)


def _check(where: str, value: Scalar, kind: Any) -> None:
    try:
        TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        said = error.errors()[0]["msg"]
        raise ConfigError(f"holds a value that the parameter may not have ({said})", field=where, value=value) from error


def _nearest(key: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"Did you mean `{near[0]}`?" if near else f"Known: {', '.join(known)}."
