"""The page of a study: what won, beside what params.yaml says, with pictures once there is something to see."""

from __future__ import annotations

from pathlib import Path

from tests.unit.tuning.test_study import hill, search, whole

from endcap.errors import TrainingError
from endcap.tuning.report import PICTURES, write_report
from endcap.tuning.study import Limits, Report, Values, open_study, run


def test_a_study_is_shown_with_its_pictures(tmp_path: Path) -> None:
    what = search()

    def by_epoch(values: Values, report: Report) -> float:
        if values["layers"] == 1:
            raise TrainingError("<b>too small</b>")
        report(1, 0.1)
        report(2, hill(values, report))
        return hill(values, report)

    study = open_study(tmp_path / "a", what)
    run(study, what, by_epoch, Limits(8))
    page = write_report(study, tmp_path / "report", "ndcg_at_10", what.present).read_text()
    for name in PICTURES:
        assert (tmp_path / "report" / name).read_bytes().startswith(b"\x89PNG")
        assert f'src="{name}"' in page
    assert f"ndcg_at_10 {study.best_value:.4f}, trial {study.best_trial.number}" in page
    assert f"reach {hill(what.present, lambda *_: None):.4f} (trial 0)" in page
    assert "<b>too small</b>" not in page
    assert "&lt;b&gt;too small" in page


def test_a_picture_that_would_say_nothing_is_left_out(tmp_path: Path) -> None:
    study = whole(tmp_path / "a", search(), 1)
    page = write_report(study, tmp_path / "report", "ndcg_at_10", {}).read_text()
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["history.png", "index.html"]
    assert "too few different trials yet: How much each parameter mattered" in page
