"""Work beside a block: its result, its error, and its end when the block fails."""

from __future__ import annotations

import threading

import pytest

from endcap.progress import Progress, silent
from endcap.training.beside import beside


def test_the_result_and_the_lines_arrive() -> None:
    lines: list[str] = []

    def work(progress: Progress) -> int:
        progress("half")
        return 7

    with beside("seven", work, lines.append) as result:
        assert result() == 7
    assert lines == ["half"]
    assert result() == 7  # outside too


def test_its_error_is_raised_where_the_result_is_asked_for() -> None:
    def work(_: Progress) -> None:
        raise ValueError("no trees")

    with beside("fails", work, print) as result:
        pass
    with pytest.raises(ValueError, match="no trees"):
        result()


def test_it_ends_when_the_block_fails() -> None:
    begun = threading.Event()

    def work(progress: Progress) -> None:
        begun.set()
        while True:  # would never end by itself
            progress("on")

    def fail() -> None:
        with beside("endless", work, silent):
            begun.wait()
            raise RuntimeError("NaN")

    with pytest.raises(RuntimeError, match="NaN"):
        fail()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("endless")]
