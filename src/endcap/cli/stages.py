"""The stages of dvc.yaml as commands; each runs in the current folder, a workspace or a checkout."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from endcap.config import load_params, load_settings
from endcap.pipeline import stages, text_stages
from endcap.progress import Progress

TEXT_CACHE = "text-vectors"
PANEL = "Training stages (run by dvc repro and the DAGs)"


def register(app: typer.Typer) -> None:
    """Add prepare, adapt, encode, train and evaluate."""

    @app.command(rich_help_panel=PANEL)
    def prepare() -> None:
        """Split data/dataset by time into what training may see: writes work/prepared."""
        _run(lambda _: stages.prepare(Path.cwd(), load_params()))

    @app.command(rich_help_panel=PANEL)
    def adapt() -> None:
        """Teach the text encoder the shop's own texts, if params.yaml says so: writes work/adapted."""
        _run(lambda show: text_stages.adapt(Path.cwd(), load_params(), show))

    @app.command(rich_help_panel=PANEL)
    def encode() -> None:
        """Turn the catalogue's texts into vectors: writes work/encoded."""
        cache = load_settings().home / TEXT_CACHE
        _run(lambda show: text_stages.encode(Path.cwd(), load_params(), cache, show))

    @app.command(rich_help_panel=PANEL)
    def train() -> None:
        """Fit the recommender from nothing or from data/parent: writes work/model."""
        _run(_train)

    @app.command(rich_help_panel=PANEL)
    def evaluate() -> None:
        """Measure on the validation days beside the baselines: writes work/evaluation."""
        _run(lambda _: stages.evaluate(Path.cwd(), load_params()))


def _train(show: Progress) -> dict[str, Any]:
    """In this process, or in as many as params.yaml says; under torchrun, this is one of them."""
    from endcap.training.distributed import launch, launched

    params = load_params()
    if params.train.processes == 1 or launched():
        return stages.train(Path.cwd(), params, show)
    launch([sys.executable, "-m", "endcap.cli", "train"], params.train.processes)
    return {}


def _run(stage: Callable[[Progress], dict[str, Any]]) -> None:
    """Run with one thread unless the environment says otherwise (two busy processes with two threads each run 7 × slower)."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    facts = stage(lambda line: typer.echo(line, err=True))
    for name, value in facts.items():
        typer.echo(f"{name}: {value}")
