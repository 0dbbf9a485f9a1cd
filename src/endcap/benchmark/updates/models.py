"""Each strategy's newest model, kept beside the output of a benchmark of updates, so that a killed run goes on from it."""

from __future__ import annotations

import shutil
from pathlib import Path

from endcap.benchmark.partial import PartialResults
from endcap.benchmark.updates.strategies import FROZEN, FULL, Stopwatch, Updater
from endcap.models.blend import BlendedRecommender
from endcap.models.model_files import load_model, save_model
from endcap.progress import Progress

FIRST = "first"  # the full fit that every strategy begins with
SECONDS = "fit_seconds"  # in a kept model's config


class Models:
    """Models by strategy and number of the week, made in order of weeks."""

    def __init__(self, updater: Updater, finished: PartialResults, progress: Progress) -> None:
        self._updater, self._finished, self._progress = updater, finished, progress
        self._held: dict[str, tuple[int, BlendedRecommender]] = {}

    def get(self, strategy: str, number: int) -> BlendedRecommender:
        """The strategy's model of a week, with the seconds that it took in `config[SECONDS]`; fitted where it is not kept."""
        if number == 0 or strategy == FROZEN:
            strategy, number = FIRST, 0
        at, model = self._held.get(strategy, (-1, None))
        if model is not None and at == number:
            return model
        folder = self._folder(strategy, number)
        if folder and (folder / "config.json").exists():
            model = load_model(folder)
        else:
            model = self._fit(strategy, number)
            if folder and strategy != FULL:  # a full fit has no successor
                save_model(model, folder)
        self._held[strategy] = number, model
        older = self._folder(strategy, number - 2)
        if older:
            shutil.rmtree(older, ignore_errors=True)
        return model

    def _fit(self, strategy: str, number: int) -> BlendedRecommender:
        weeks = self._updater.shop.weeks

        def show(line: str) -> None:
            self._progress(f"  {line}")

        parent = None if strategy in (FIRST, FULL) else self.get(strategy, number - 1)
        with Stopwatch() as watch:
            if parent is None:
                model = self._updater.first(weeks[number], show)
            else:
                model = self._updater.update(strategy, parent, weeks[number - 1], weeks[number], show)
        model.config[SECONDS] = watch.facts()
        return model

    def _folder(self, strategy: str, number: int) -> Path | None:
        if self._finished.folder is None or number < 0:
            return None
        week = self._updater.shop.weeks[number]
        return self._finished.folder / f"model-{strategy}-{week:%Y-%m-%d}-{self._updater.options.seed}-{self._finished.digest}"
