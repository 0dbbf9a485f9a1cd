"""What every fit checks before it begins, and what it says when memory ends."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from endcap.data.features import Interactions
from endcap.errors import TrainingError
from endcap.models.history import Floats
from endcap.training.options import FitOptions

if TYPE_CHECKING:
    import pandas as pd

P = ParamSpec("P")
R = TypeVar("R")
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "alloc_cpu")  # torch says it in words only


def guarded(fit: Callable[P, R]) -> Callable[P, R]:
    """A fit whose arguments `interactions`, `catalog` and `text_IE` must go together, and whose lack of memory has a name.

    Raises:
        TrainingError: an item twice or nowhere, or no memory, with the settings to lower.
    """
    signature = inspect.signature(fit)

    @functools.wraps(fit)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs).arguments
        check_items(given["interactions"], given["catalog"], given["text_IE"])
        try:
            return fit(*args, **kwargs)
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and not any(words in str(error) for words in OUT_OF_MEMORY):
                raise
            raise _no_memory(given["options"], error) from error

    return run


def check_items(interactions: Interactions, catalog: pd.DataFrame, text_IE: Floats) -> None:
    """See that `catalog` and `text_IE` hold one row an item of `interactions.item_ids`, in that order.

    Raises:
        TrainingError: names the first items that do not.
    """
    listed = catalog["item_id"]
    if twice := list(listed[listed.duplicated()].unique()):
        raise _wrong_items(twice, "more than once", "Keep one row an item; the stage prepare does.")
    if lost := sorted(set(interactions.item_ids) - set(listed)):
        raise _wrong_items(lost, "not at all, though there are events of them", "List them, or leave their events out.")
    if list(listed) != list(interactions.item_ids) or len(text_IE) != len(listed):
        raise TrainingError(
            "is not in the order of the interactions' items, with one text vector each",
            field="catalog",
            value=(len(listed), len(interactions.item_ids), len(text_IE)),
            action="Run the stages prepare and encode again.",
        )


def _wrong_items(items: Sequence[str], how: str, action: str) -> TrainingError:
    named = ", ".join(map(str, items[:3])) + (f" and {len(items) - 3} more" if len(items) > 3 else "")
    return TrainingError(f"{named} listed {how}", field="catalog", action=action)


def _no_memory(options: FitOptions, error: Exception) -> TrainingError:
    said = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
    return TrainingError(
        f"there is not enough memory ({said})",
        field="train",
        value=f"batch_size={options.batch_size}, max_length={options.max_length}, dim={options.dim}",
        action="Lower train.batch_size first, then train.max_length, then train.dim.",
    )
