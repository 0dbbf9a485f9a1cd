"""The shop whose truth is known, and the page of the comparison with obp, which itself is not needed here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import off_policy as known
from benchmarks.off_policy import PLACES, Shop, coverage, draw, errors
from benchmarks.peers import off_policy as beside
from benchmarks.peers.__main__ import parse
from endcap.errors import InputError


@pytest.mark.parametrize("places", [1, PLACES])
def test_the_truth_is_what_the_policy_earns_when_it_is_played(places: int) -> None:
    shop = Shop(3.0)
    shop.logging = shop.policy
    estimates, _, _, weights = shop.log(30_000, places, np.random.default_rng(1))
    assert weights == pytest.approx(np.ones(30_000 * places))
    assert estimates["ipw" if places == 1 else "sips"].value == pytest.approx(shop.value(places), abs=0.006)


def test_figures_have_all_estimators_and_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "ANSWERS", 400)
    monkeypatch.setattr(known, "SIZES", (300, 600))
    shop = Shop(3.0)
    worlds = [coverage(shop, places, 2) for places in (1, PLACES)]
    found = {"coverage": {"near": worlds, "far": worlds}, "errors": [errors(shop, places, 2) for places in (1, PLACES)]}
    assert {one["estimator"] for world in worlds for one in world["intervals"]} >= {"ipw", "dr", "mips", "rips", "cascade_dr"}
    assert {one["interval"] for one in worlds[0]["intervals"]} == {"bootstrap", "bernstein"}
    assert [one["rows"] for one in found["errors"][0]["by_rows"]["ipw"]] == [300, 600]
    draw(found, tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_the_page_tells_the_largest_difference(tmp_path: Path) -> None:
    def direction(difference: float) -> dict[str, object]:
        estimates = {"ipw": {"endcap": 0.5, "obp": 0.5 + difference, "difference": difference}}
        return {
            "rows": 10,
            "clicks": 3,
            "estimates": estimates,
            "bootstrap": {"ipw": {"endcap": [0.1, 0.9], "obp": [0.2, 0.8]}},
        }

    results = {
        "directions": {"bts → random": direction(0.0), "random → bts": direction(2e-9)},
        "versions": {"obp": "0.5.7", "numpy": "1.26.4"},
        "measured_at": "2026-11-22T00:00:00+00:00",
        "commit": "a" * 40,
    }
    assert beside.largest_differences(results) == {"ipw": 2e-9}
    assert [path.name for path in beside.write(results, tmp_path / "beside")] == ["beside.json", "beside.md"]
    page = (tmp_path / "beside.md").read_text(encoding="utf-8")
    assert "| ipw | 0.500000000 | 0.500000000 | 0.500000000 | 0.500000002 | 2.0e-09 |" in page
    assert "The largest difference of all: 2.0e-09." in page


def test_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "bts.csv.gz").touch()
    with pytest.raises(InputError, match=r"files are missing.*random\.csv\.gz.*item_context\.csv.*--open-bandit"):
        beside.measure(tmp_path)


def test_the_part_is_known() -> None:
    assert parse(["off-policy"]).parts == ["off-policy"]
    assert parse([]).parts == ["throughput", "quality"]
