"""Probabilities of click and purchase for a shown item: P(click), and P(purchase) = P(click) · P(purchase | click).

Here is the head that answers, and its file. Its inputs are in `features.py`; it is learnt in training/behaviour/head.py.
A click means "acted on": an item that was bought without a recorded click counts as clicked, so P(purchase) <= P(click).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from endcap.errors import InputError, RegistryError
from endcap.models.behaviour.calibration import CalibrationMap, Floats, sigmoid
from endcap.models.behaviour.features import Features, place_features
from endcap.models.behaviour.item_rates import ItemRates

FILE = "behaviour.safetensors"
FORMAT_VERSION = "1"
LIMIT = 8.0  # standardised inputs are cut at so many standard deviations: an odd price must not decide alone


@dataclass(frozen=True, slots=True, eq=False)
class Chances:
    """(N,) each, purchase <= click everywhere."""

    click: Floats
    purchase: Floats


@dataclass(frozen=True, slots=True)
class Learnt:
    """How a task came to its probabilities: `head`, or `rate` (one rate for all) and why."""

    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class BehaviourModel:
    """logits_N2 = W x + V tanh(U x + b) + c on standardised inputs x; F features, H hidden units (0: a logistic regression)."""

    names: tuple[str, ...]  # (F,)
    means: Floats  # (F,)
    scales: Floats  # (F,)
    linear: Floats  # (2, F) W
    offset: Floats  # (2,) c
    hidden: Floats  # (H, F) U
    hidden_offset: Floats  # (H,) b
    mix: Floats  # (2, H) V
    calibrate_click: CalibrationMap = field(default_factory=CalibrationMap)
    calibrate_purchase: CalibrationMap = field(default_factory=CalibrationMap)
    rates: ItemRates = field(default_factory=ItemRates.empty)  # as of the end of learning; an input of requests to come
    tasks: dict[str, Learnt] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)  # what was chosen, on how many rows

    def chances(self, features: Features, at_rank: int | None = None) -> Chances:
        """Calibrated probabilities of each row. `at_rank`: as if shown at that place, to compare items free of position bias.

        Raises:
            InputError: the features lack one that the head was learnt with.
        """
        raw = self.raw_chances(features, at_rank)
        click = np.clip(self.calibrate_click(raw.click), 0.0, 1.0)
        purchase = np.clip(self.calibrate_purchase(raw.purchase), 0.0, 1.0)
        return Chances(click, np.minimum(purchase, click))

    def raw_chances(self, features: Features, at_rank: int | None = None) -> Chances:
        """The head's own probabilities, before calibration."""
        x_NF = self.standardise(features, at_rank)
        logits = x_NF @ self.linear.T + self.offset
        if len(self.hidden):
            logits = logits + np.tanh(x_NF @ self.hidden.T + self.hidden_offset) @ self.mix.T
        click = sigmoid(logits[:, 0])
        return Chances(click, click * sigmoid(logits[:, 1]))

    def standardise(self, features: Features, at_rank: int | None = None) -> Floats:
        """(N, F) in the head's order; what is not a number becomes the mean of what was learnt."""
        place = {name: column for column, name in enumerate(features.names)}
        missing = [name for name in self.names if name not in place]
        if missing:
            action = "Build them with models.behaviour.features of the same version, or learn the head again."
            raise InputError(
                "the head was learnt with features that are not there", field="features", value=missing, action=action
            )
        values = features.values[:, [place[name] for name in self.names]].astype(np.float64)
        for name, value in place_features(at_rank).items() if at_rank is not None else ():
            if name in self.names:
                values[:, self.names.index(name)] = value
        scaled = (values - self.means) / self.scales
        return np.clip(np.nan_to_num(scaled, nan=0.0, posinf=LIMIT, neginf=-LIMIT), -LIMIT, LIMIT)

    def save(self, directory: Path) -> Path:
        """Write behaviour.safetensors into a model directory. The same head gives the same bytes."""
        directory.mkdir(parents=True, exist_ok=True)
        maps = {"calibrate_click": self.calibrate_click, "calibrate_purchase": self.calibrate_purchase}
        arrays: dict[str, npt.NDArray[Any]] = {name: np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS}
        arrays |= {name: np.ascontiguousarray(one.numbers) for name, one in maps.items()} | {"rates": self.rates.table}
        about = {
            "format_version": FORMAT_VERSION,
            "names": list(self.names),
            "kinds": {name: one.kind for name, one in maps.items()},
            "rate_items": [str(item) for item in self.rates.item_ids],
            "tasks": {name: asdict(task) for name, task in self.tasks.items()},
            "facts": self.facts,
        }
        path = directory / FILE
        save_file(arrays, path, metadata={"behaviour": json.dumps(about, sort_keys=True)})
        path.chmod(0o644)  # written readable by the owner alone; other processes serve it
        return path

    @classmethod
    def load(cls, directory: Path) -> BehaviourModel:
        """Read behaviour.safetensors of a model directory.

        Raises:
            RegistryError: it is missing, broken, or of another format version.
        """
        path = directory / FILE
        try:
            with safe_open(path, framework="np") as file:
                about = json.loads((file.metadata() or {})["behaviour"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- not a mapping
            if about["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format version {about['format_version']}, this Endcap reads {FORMAT_VERSION}")
            maps = {name: CalibrationMap(kind, arrays[name]) for name, kind in about["kinds"].items()}
            parts: dict[str, Any] = {name: arrays[name] for name in _ARRAYS} | maps
            parts |= {"names": tuple(about["names"]), "facts": about["facts"]}
            parts["rates"] = ItemRates(np.array(about["rate_items"], object), arrays["rates"])
            parts["tasks"] = {name: Learnt(**task) for name, task in about["tasks"].items()}
            return cls(**parts)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise RegistryError(
                f"cannot be read as a behaviour head ({type(error).__name__}: {error})",
                field=str(path),
                action="Learn the head again, or serve without probabilities.",
            ) from error


_ARRAYS = ("means", "scales", "linear", "offset", "hidden", "hidden_offset", "mix")
