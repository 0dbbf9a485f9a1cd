"""A file is as it was, or as it should be, and nothing else lies beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from endcap.data.atomic_write import write_atomically


def test_it_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "page.html"
    for text in ("ä" * 100, "short"):
        write_atomically(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert [one.name for one in path.parent.iterdir()] == ["page.html"]


def test_what_cannot_be_written_leaves_everything_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_atomically(path, "before")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "x" * 100_000 + "\ud800")
    assert path.read_text(encoding="utf-8") == "before"
    assert [one.name for one in tmp_path.iterdir()] == ["page.html"]


def test_a_name_as_long_as_the_file_system_takes(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("a" * 255), "text")
