"""A model directory wrapped as a self-contained MLflow pyfunc on disk. Not here: talking to the registry (registry.py)."""

from __future__ import annotations

import shutil
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).resolve().parents[1]
# The layers that a loaded model may use: models and what lies below it (import-linter keeps it so). No training code.
_CARRIED = (
    "__init__.py", "contracts.py", "config.py", "errors.py", "exploring.py", "progress.py", "search_space.py", "sections.py",
    "data", "models",
)  # fmt: skip
_NEEDED = ("lightgbm", "mlflow", "numpy", "pandas", "pyarrow", "pydantic", "pyyaml", "safetensors", "scipy", "torch")
MODEL_PATH = "artifacts/model"  # of the model directory below the pyfunc


def package(model_dir: Path, target: Path) -> Path:
    """Write the pyfunc of `model_dir` to `target` (must not exist): MLmodel, code, and the model as an artifact."""
    import mlflow.pyfunc

    staging = target.with_name(f"{target.name}.staging")
    code = staging / "endcap"
    code.mkdir(parents=True)
    for name in _CARRIED:
        source = _PACKAGE / name
        if source.is_dir():
            shutil.copytree(source, code / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy2(source, code / name)
    shutil.copytree(model_dir, staging / "model")
    mlflow.pyfunc.save_model(
        str(target),
        python_model=str(Path(__file__).with_name("served_model.py")),
        artifacts={"model": str(staging / "model")},
        code_paths=[str(code)],
        signature=_signature(),
        input_example=_example(model_dir),
        pip_requirements=[f"{name}=={installed(name).split('+')[0]}" for name in _NEEDED],
    )
    shutil.rmtree(staging)
    return target


def _example(model_dir: Path) -> Any:
    """A shopper who took the first two items; shown on the model's page and in `serving_input_example.json`."""
    import pandas as pd

    items = pd.read_parquet(model_dir / "items.parquet", columns=["item_id"])["item_id"]
    return pd.DataFrame({"item_ids": [items.head(2).tolist()]})


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array

    texts, numbers = Array(DataType.string), Array(DataType.double)
    return ModelSignature(
        inputs=Schema(
            [
                ColSpec(texts, "item_ids"),
                ColSpec(texts, "times", required=False),
                ColSpec(texts, "types", required=False),
                ColSpec(numbers, "quantities", required=False),
                ColSpec(numbers, "prices", required=False),
                ColSpec(texts, "surfaces", required=False),
                ColSpec(texts, "countries", required=False),
            ]
        ),
        outputs=Schema([ColSpec(texts, "item_ids"), ColSpec(numbers, "scores")]),
        params=ParamSchema(
            [
                ParamSpec("k", DataType.long, 10),
                ParamSpec("now", DataType.string, ""),
                ParamSpec("surface", DataType.string, ""),
            ]
        ),
    )
