"""The files of a model directory: config.json, items.parquet, sequence.safetensors, counts.safetensors, ranker.txt."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file as save_tensors
from scipy import sparse

from endcap.data.features import TYPES
from endcap.errors import RegistryError
from endcap.models.blend import BlendedRecommender
from endcap.models.item_facts import ItemFacts
from endcap.models.matrix_factorisation import ItemFactors
from endcap.models.newcomers import NewcomerPlaces
from endcap.models.ranker import Ranker
from endcap.models.sequential import SequenceModel, SequenceShape
from endcap.models.signals import CONTEXT, SIGNALS, Counts

FORMAT_VERSION = 5
RANKER = "ranker.txt"  # missing where there was too little to learn a second stage from
HALF = ("text", "ids")  # the large tensors, kept in half precision on disk


def save_model(model: BlendedRecommender, directory: Path) -> None:
    """Write the model directory, replacing a former one. The same model gives the same bytes.

    config.json comes last: a directory with it is whole.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").unlink(missing_ok=True)
    model.items.to_parquet(directory / "items.parquet", index=False)
    state = {name: tensor.detach().contiguous() for name, tensor in model.model.state_dict().items()}
    state |= {name: state[name].half() for name in HALF}
    save_tensors(state, directory / "sequence.safetensors")
    counts = model.counts
    arrays: dict[str, npt.NDArray[Any]] = {
        "all_time": counts.all_time,
        "recent": counts.recent,
        "newest": counts.newest,
        **_matrix_arrays("similarity", counts.similarity),
        **_matrix_arrays("ease", counts.ease),
        "factors": counts.factors.values,
        "facts": counts.facts.values,
        "typical_gap_days": np.array([counts.typical_gap_days], np.float64),
    }
    save_arrays(arrays, directory / "counts.safetensors")
    (directory / RANKER).unlink(missing_ok=True)
    if model.ranker is not None:
        (directory / RANKER).write_text(model.ranker.to_text(), encoding="utf-8")
    for path in directory.glob("*.safetensors"):
        path.chmod(0o644)  # written readable by the owner alone; other processes serve them
    config = {
        **model.config,
        "format_version": FORMAT_VERSION,
        "mix": list(model.mix),
        "newcomers": dataclasses.asdict(model.newcomers),
        "shape": dataclasses.asdict(model.model.shape),
        "target_types": [name for name, flag in zip(TYPES, model.target_types, strict=True) if flag],
        "blend_weights": {
            name: dict(zip(CONTEXT, row, strict=True)) for name, row in zip(SIGNALS, model.weights.tolist(), strict=True)
        },
    }
    (directory / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_model(directory: Path) -> BlendedRecommender:
    """Read a model directory.

    Raises:
        RegistryError: a file is missing, broken, or of another format version.
    """
    try:
        config: dict[str, Any] = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        if config.get("format_version") != FORMAT_VERSION:
            raise RegistryError(
                "unknown format of a model directory",
                field=str(directory / "config.json"),
                value=config.get("format_version"),
                action=f"This Endcap reads format {FORMAT_VERSION}; train the model again.",
            )
        items = pd.read_parquet(directory / "items.parquet")
        tensors = load_tensors(directory / "sequence.safetensors")
        arrays = load_arrays(directory / "counts.safetensors")
        network = SequenceModel(SequenceShape(**config["shape"]), tensors["text"], tensors["seen"])
        network.load_state_dict({name: tensor.float() if name in HALF else tensor for name, tensor in tensors.items()})
        ranker = Ranker.from_text((directory / RANKER).read_text(encoding="utf-8")) if (directory / RANKER).exists() else None
        newcomers = NewcomerPlaces(**config["newcomers"])
        mix = (float(config["mix"][0]), float(config["mix"][1]))
        weights = [[config["blend_weights"][name][column] for column in CONTEXT] for name in SIGNALS]
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise RegistryError(
            f"cannot be read as a model ({type(error).__name__}: {error})",
            field=str(directory),
            action="Download the version again, or train a new one.",
        ) from error
    counts = Counts(
        arrays["all_time"], arrays["recent"], arrays["newest"],
        _matrix(arrays, "similarity", len(items)), _matrix(arrays, "ease", len(items)), ItemFactors(arrays["factors"]),
        ItemFacts(arrays["facts"]),
        typical_gap_days=float(arrays["typical_gap_days"][0]),
    )  # fmt: skip
    targets = np.isin(TYPES, config["target_types"])
    return BlendedRecommender(
        items, network.eval(), counts, targets, np.array(weights, np.float32), ranker, mix, newcomers, config
    )


def _matrix_arrays(name: str, matrix: sparse.csr_matrix) -> dict[str, npt.NDArray[Any]]:
    return {
        f"{name}_data": matrix.data.astype(np.float32),
        f"{name}_indices": matrix.indices.astype(np.int32),
        f"{name}_indptr": matrix.indptr.astype(np.int64),
    }


def _matrix(arrays: dict[str, npt.NDArray[Any]], name: str, size: int) -> sparse.csr_matrix:
    parts = tuple(arrays[f"{name}_{part}"] for part in ("data", "indices", "indptr"))
    return sparse.csr_matrix(parts, shape=(size, size))


def quantise(network: torch.nn.Module) -> None:
    """Round the tensors that are kept in half precision on disk, so that a model scores the same before and after saving."""
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name in HALF:
                tensor.copy_(tensor.half().float())
