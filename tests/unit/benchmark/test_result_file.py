"""Where a result may go: said before any work is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from endcap.benchmark.result_file import check_out
from endcap.errors import InputError


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("fig.png", "no .json"),
        ("folder.json", "is taken"),
        ("pictured.json", "is taken"),
        ("parted.json", "is taken"),
        ("input.json", "one of the inputs"),
        ("file/R.json", "cannot be written"),
        ("a" * 300 + ".json", "cannot be written|is taken|too long"),
    ],
)
def test_a_place_that_cannot_hold_the_result_is_refused(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "pictured.png").mkdir()
    (tmp_path / "parted.partial").touch()
    (tmp_path / "file").touch()
    (tmp_path / "input.json").write_text("{}")
    with pytest.raises(InputError, match=says):
        check_out(tmp_path / name, tmp_path / "input.json", None)


def test_a_new_folder_is_made_and_nothing_else_is_left(tmp_path: Path) -> None:
    check_out(tmp_path / "new" / "R.json", tmp_path / "input.parquet")
    assert list((tmp_path / "new").iterdir()) == []
    check_out(None)
